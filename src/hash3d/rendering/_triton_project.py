# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
"""Projection of Gaussians to image ellipses by Triton, forward and analytic backward, in float32 on CUDA.

The formulas are those of `_torch_splat.project`, one principal axis at a time: with m_k = scale_k R e_k and W = J V the
Jacobian times the camera's rotation, the footprint of an axis is f_k = W m_k and the ellipse's covariance is the sum of
f_k f_k^T, plus eps2d I. A projected Gaussian is ten numbers: column and row of the centre (pixels), inverse covariance
xx, xy, yy (1/pixel^2), opacity, red, green, blue, depth.
"""

import triton
import triton.language as tl

from ._torch_splat import JACOBIAN_MARGIN

BLOCK = 64
"""Gaussians of one program."""
SLACK = tl.constexpr(1e-2)
"""Pixels added to an ellipse's box against rounding; the exact test is the least alpha."""
MARGIN = tl.constexpr(JACOBIAN_MARGIN)


@triton.jit
def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@triton.jit
def _mix(s, a, t, b):
    """s a + t b, of scalars and vectors."""
    return (s * a[0] + t * b[0], s * a[1] + t * b[1], s * a[2] + t * b[2])


@triton.jit
def _vector(table, offset, mask):
    """Load three numbers in a row."""
    x = tl.load(table + offset, mask=mask, other=0.0)
    y = tl.load(table + offset + 1, mask=mask, other=0.0)
    return (x, y, tl.load(table + offset + 2, mask=mask, other=0.0))


@triton.jit
def _store3(table, offset, vector, mask):
    tl.store(table + offset, vector[0], mask=mask)
    tl.store(table + offset + 1, vector[1], mask=mask)
    tl.store(table + offset + 2, vector[2], mask=mask)


@triton.jit
def _axes(quats, row, mask):
    """The columns of the rotation, and the quaternion w, x, y, z: normalised, with its length."""
    w = tl.load(quats + row * 4, mask=mask, other=1.0)
    x, y, z = _vector(quats, row * 4 + 1, mask)
    length = tl.maximum(tl.sqrt(w * w + x * x + y * y + z * z), 1e-12)
    w, x, y, z = w / length, x / length, y / length, z / length
    first = (1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y))
    second = (2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x))
    third = (2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y))
    return first, second, third, (w, x, y, z, length)


@triton.jit
def _view(viewmats, intrinsics, view):
    """The rows of the camera's rotation, its translation, and both axes' focal lengths and centres."""
    v, k = viewmats + view * 16, intrinsics + view * 9
    first = (tl.load(v), tl.load(v + 1), tl.load(v + 2))
    second = (tl.load(v + 4), tl.load(v + 5), tl.load(v + 6))
    third = (tl.load(v + 8), tl.load(v + 9), tl.load(v + 10))
    shift = (tl.load(v + 3), tl.load(v + 7), tl.load(v + 11))
    return first, second, third, shift, (tl.load(k), tl.load(k + 2)), (tl.load(k + 4), tl.load(k + 5))


@triton.jit
def _ray(x, z, lens, size):
    """x / z clamped as `_torch_splat.jacobian_limits` says, and whether it was within the limits."""
    margin = MARGIN * 0.5 * size / lens[0]
    low, high, ray = -lens[1] / lens[0] - margin, (size - lens[1]) / lens[0] + margin, x / z
    return tl.minimum(tl.maximum(ray, low), high), (ray >= low) & (ray <= high)


@triton.jit
def _footprints(first, second, third, across, down):
    """Two rows of W times the three axes: column and row of each footprint."""
    columns = (_dot(across, first), _dot(across, second), _dot(across, third))
    return columns, (_dot(down, first), _dot(down, second), _dot(down, third))


@triton.jit
def _scaled(s, a):
    return (s * a[0], s * a[1], s * a[2])


@triton.jit(do_not_specialize=["count"])
def project_kernel(
    means, quats, scales, opacities, colors, probe, viewmats, intrinsics, splats, depths, boxes, count, width, height,
    near, eps2d, min_alpha, BIN: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Fill `splats` "B N 10", `depths` "B N" (infinite for what is not visible) and `boxes` "B N".

    A box is the bins that a Gaussian's pixels of at least `min_alpha` lie in: first and end column, first and end row,
    a byte each; 0 if it has none (Radl et al. 2024, "StopThePop").
    """
    view = tl.program_id(1)
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = row < count
    right, below, ahead, shift, lens_x, lens_y = _view(viewmats, intrinsics, view)
    mean = _vector(means, row * 3, mask)
    x, y, z = _dot(right, mean) + shift[0], _dot(below, mean) + shift[1], _dot(ahead, mean) + shift[2]
    opacity = tl.load(opacities + row, mask=mask, other=0.0)
    visible = mask & (z >= near) & (opacity >= min_alpha)
    z = tl.where(visible, z, 1.0)
    ray_x, _ = _ray(x, z, lens_x, width)
    ray_y, _ = _ray(y, z, lens_y, height)
    first, second, third, _ = _axes(quats, row, mask)
    scale = _vector(scales, row * 3, mask)
    across = _mix(lens_x[0] / z, right, -lens_x[0] * ray_x / z, ahead)
    down = _mix(lens_y[0] / z, below, -lens_y[0] * ray_y / z, ahead)
    f, g = _footprints(_scaled(scale[0], first), _scaled(scale[1], second), _scaled(scale[2], third), across, down)
    xx, xy, yy = _dot(f, f) + eps2d, _dot(f, g), _dot(g, g) + eps2d
    determinant = xx * yy - xy * xy
    out = view * count + row
    shifts = probe + out * 2
    column = lens_x[0] * (x / z) + lens_x[1] + tl.load(shifts, mask=mask, other=0.0)
    line = lens_y[0] * (y / z) + lens_y[1] + tl.load(shifts + 1, mask=mask, other=0.0)
    _store3(splats, out * 10, (column, line, yy / determinant), mask)
    _store3(splats, out * 10 + 3, (-xy / determinant, xx / determinant, opacity), mask)
    _store3(splats, out * 10 + 6, _vector(colors, row * 3, mask), mask)
    tl.store(splats + out * 10 + 9, z, mask=mask)
    reach = 2.0 * tl.log(tl.where(visible, opacity / min_alpha, 1.0))
    left, end, some = _bins(column, tl.sqrt(reach * xx) + SLACK, width, BIN)
    top, bottom, more = _bins(line, tl.sqrt(reach * yy) + SLACK, height, BIN)
    visible = visible & some & more
    box = left | (end << 8) | (top << 16) | (bottom << 24)
    tl.store(boxes + out, tl.where(visible, box, 0), mask=mask)
    tl.store(depths + out, tl.where(visible, z, float("inf")), mask=mask)


@triton.jit
def _bins(centre, radius, size, BIN: tl.constexpr):
    """First and end bin along one axis of the pixels that a box covers, and whether there are any."""
    low = tl.maximum(tl.ceil(centre - radius - 0.5), 0.0)
    high = tl.minimum(tl.floor(centre + radius + 0.5), size * 1.0)
    some = low < high
    low, high = tl.where(some, low, 0.0), tl.where(some, high, 0.0)
    return low.to(tl.int32) // BIN, (high.to(tl.int32) + (BIN - 1)) // BIN, some


@triton.jit(do_not_specialize=["count"])
def project_backward_kernel(
    means, quats, scales, viewmats, intrinsics, splats, boxes, sums, grad_means, grad_quats, grad_scales,
    grad_opacities, grad_colors, grad_probe, count, views, width, height, BLOCK: tl.constexpr,
):  # fmt: skip
    """Fill the gradients of the Gaussians, summed over the views, and those of their projected centres.

    `sums` "B N 10" are over the pixels: of the exponent's gradient times dx, dy, dx dx, dx dy, dy dy and 1, with d from
    the centre to the pixel, up to its sign; then the gradients of colour and depth.
    """
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = row < count
    mean, scale = _vector(means, row * 3, mask), _vector(scales, row * 3, mask)
    first, second, third, quat = _axes(quats, row, mask)
    m_1, m_2, m_3 = _scaled(scale[0], first), _scaled(scale[1], second), _scaled(scale[2], third)
    zero = tl.zeros([BLOCK], tl.float32)
    none = (zero, zero, zero)
    by_mean, by_1, by_2, by_3, by_color, by_opacity = none, none, none, none, none, zero
    for view in range(views):
        seen = view * count + row
        visible = mask & (tl.load(boxes + seen, mask=mask, other=0) != 0)
        right, below, ahead, shift, lens_x, lens_y = _view(viewmats, intrinsics, view)
        x, y, z = _dot(right, mean) + shift[0], _dot(below, mean) + shift[1], _dot(ahead, mean) + shift[2]
        z = tl.where(visible, z, 1.0)
        ray_x, free_x = _ray(x, z, lens_x, width)
        ray_y, free_y = _ray(y, z, lens_y, height)
        across = _mix(lens_x[0] / z, right, -lens_x[0] * ray_x / z, ahead)
        down = _mix(lens_y[0] / z, below, -lens_y[0] * ray_y / z, ahead)
        f, g = _footprints(m_1, m_2, m_3, across, down)
        by_x, by_y, by_xx = _vector(sums, seen * 10, visible)
        by_xy, by_yy, by_one = _vector(sums, seen * 10 + 3, visible)
        conic = _vector(splats, seen * 10 + 2, visible)
        g_column, g_line = -(conic[0] * by_x + conic[1] * by_y), -(conic[1] * by_x + conic[2] * by_y)
        tl.store(grad_probe + seen * 2, g_column, mask=mask)
        tl.store(grad_probe + seen * 2 + 1, g_line, mask=mask)
        by_opacity -= by_one / tl.load(splats + seen * 10 + 5, mask=visible, other=1.0)
        by_color = _mix(1.0, by_color, 1.0, _vector(sums, seen * 10 + 6, visible))
        g_depth = tl.load(sums + seen * 10 + 9, mask=visible, other=0.0)
        c_xx, c_xy, c_yy = _covariance_gradient(conic, by_xx, by_xy, by_yy)
        g_f, g_g = _mix(c_xx, f, c_xy, g), _mix(c_xy, f, c_yy, g)
        by_1 = _mix(1.0, by_1, 1.0, _mix(g_f[0], across, g_g[0], down))
        by_2 = _mix(1.0, by_2, 1.0, _mix(g_f[1], across, g_g[1], down))
        by_3 = _mix(1.0, by_3, 1.0, _mix(g_f[2], across, g_g[2], down))
        g_across = _mix(1.0, _mix(g_f[0], m_1, g_f[1], m_2), g_f[2], m_3)
        g_down = _mix(1.0, _mix(g_g[0], m_1, g_g[1], m_2), g_g[2], m_3)
        g_x, z_x = _axis_backward(
            x, z, lens_x[0], ray_x, free_x, g_column, _dot(g_across, right), _dot(g_across, ahead)
        )
        g_y, z_y = _axis_backward(y, z, lens_y[0], ray_y, free_y, g_line, _dot(g_down, below), _dot(g_down, ahead))
        by_view = _mix(1.0, _mix(g_x, right, g_y, below), g_depth + z_x + z_y, ahead)
        by_view = _where(visible, by_view, none)  # Their z was replaced.
        by_mean = _mix(1.0, by_mean, 1.0, by_view)
    _store3(grad_means, row * 3, by_mean, mask)
    _store3(grad_scales, row * 3, (_dot(first, by_1), _dot(second, by_2), _dot(third, by_3)), mask)
    _store3(grad_colors, row * 3, by_color, mask)
    tl.store(grad_opacities + row, by_opacity, mask=mask)
    by_1, by_2, by_3 = _scaled(scale[0], by_1), _scaled(scale[1], by_2), _scaled(scale[2], by_3)
    _store_quaternion(grad_quats, row, mask, quat, by_1, by_2, by_3)


@triton.jit
def _where(chosen, a, b):
    return (tl.where(chosen, a[0], b[0]), tl.where(chosen, a[1], b[1]), tl.where(chosen, a[2], b[2]))


@triton.jit
def _covariance_gradient(conic, by_xx, by_xy, by_yy):
    """Twice the gradient -Q G Q of the covariance, with G = by / 2 that of its inverse Q: entries xx, xy, yy."""
    xx, xy, yy = conic
    left_xx, left_xy = xx * by_xx + xy * by_xy, xx * by_xy + xy * by_yy
    left_yx, left_yy = xy * by_xx + yy * by_xy, xy * by_xy + yy * by_yy
    return -(left_xx * xx + left_xy * xy), -(left_xx * xy + left_xy * yy), -(left_yx * xy + left_yy * yy)


@triton.jit
def _axis_backward(x, z, focal, ray, free, g_centre, g_same, g_ahead):
    """The gradients of x and z along one axis, through the pixel and through J's entries f / z and -f ray / z."""
    g_x = focal / z * g_centre
    g_z = -g_x * x / z + focal / (z * z) * (ray * g_ahead - g_same)
    by_ray = tl.where(free, -focal / (z * z) * g_ahead, 0.0)
    return g_x + by_ray, g_z - by_ray * x / z


@triton.jit
def _store_quaternion(table, row, mask, quat, a, b, c):
    """Store the gradient of the quaternion, from those of the rotation's columns; its length has none."""
    w, x, y, z, length = quat
    g_w = 2 * (x * (b[2] - c[1]) + y * (c[0] - a[2]) + z * (a[1] - b[0]))
    s_xy, s_xz, s_yz = a[1] + b[0], a[2] + c[0], b[2] + c[1]
    g_x = 2 * (y * s_xy + z * s_xz + w * (b[2] - c[1]) - 2 * x * (b[1] + c[2]))
    g_y = 2 * (x * s_xy + z * s_yz + w * (c[0] - a[2]) - 2 * y * (a[0] + c[2]))
    g_z = 2 * (x * s_xz + y * s_yz + w * (a[1] - b[0]) - 2 * z * (a[0] + b[1]))
    radial = w * g_w + x * g_x + y * g_y + z * g_z
    tl.store(table + row * 4, (g_w - radial * w) / length, mask=mask)
    _store3(table, row * 4 + 1, _scaled(1.0 / length, _mix(1.0, (g_x, g_y, g_z), -radial, (x, y, z))), mask)
