"""Projection of Gaussians to image ellipses on the CPU, forward and analytic backward, compiled by numba.

The formulas are those of `_torch_splat.project`, one principal axis at a time: with a_k = scale_k R e_k in the camera
frame and J the Jacobian, the footprint of the axis is f_k = J a_k and the ellipse's covariance is the sum of f_k
f_k^T, plus eps2d I. All arithmetic is in float64, whatever the arrays hold: it costs nothing here.
"""

import math
from typing import Any

import numpy as np

from hash3d._numba_kernel import Array, kernel, prange

BLOCK = 128
"""Gaussians a thread takes at a time, with one set of scratch arrays."""
SLACK = 1e-3
"""Pixels added to an ellipse's box against rounding; the exact test is the least alpha."""


@kernel()
def _rotate(quat: Array, rotation: Array) -> Any:
    """Fill the rotation matrix of a quaternion; returns it normalised (w, x, y, z), and its length."""
    w, x, y, z = float(quat[0]), float(quat[1]), float(quat[2]), float(quat[3])
    length = max(math.sqrt(w * w + x * x + y * y + z * z), 1e-12)
    w, x, y, z = w / length, x / length, y / length, z / length
    rotation[0, 0], rotation[0, 1], rotation[0, 2] = 1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)
    rotation[1, 0], rotation[1, 1], rotation[1, 2] = 2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)
    rotation[2, 0], rotation[2, 1], rotation[2, 2] = 2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)
    return w, x, y, z, length


@kernel()
def _to_camera(mean: Array, view: Array) -> Any:
    """A world point in the camera's frame."""
    x = view[0, 0] * mean[0] + view[0, 1] * mean[1] + view[0, 2] * mean[2] + view[0, 3]
    y = view[1, 0] * mean[0] + view[1, 1] * mean[1] + view[1, 2] * mean[2] + view[1, 3]
    z = view[2, 0] * mean[0] + view[2, 1] * mean[1] + view[2, 2] * mean[2] + view[2, 3]
    return x, y, z


@kernel()
def _project_axes(axes: Array, scale: Array, view: Array, jacobian: Any, in_camera: Array, footprint: Array) -> None:
    """Fill the principal axes in the camera's frame "3 3" and their footprints "3 2", an axis a row."""
    j_xx, j_xz, j_yy, j_yz = jacobian
    for k in range(3):
        for i in range(3):
            in_camera[k, i] = scale[k] * (view[i, 0] * axes[0, k] + view[i, 1] * axes[1, k] + view[i, 2] * axes[2, k])
        footprint[k, 0] = j_xx * in_camera[k, 0] + j_xz * in_camera[k, 2]
        footprint[k, 1] = j_yy * in_camera[k, 1] + j_yz * in_camera[k, 2]


@kernel()
def _jacobian(x: float, y: float, z: float, focal: Any, limits: Array) -> Any:
    """Entries xx, xz, yy, yz of the pixel's derivative, the ray clamped to `limits` (see `jacobian_limits`)."""
    ray_x, ray_y = min(max(x / z, limits[0]), limits[1]), min(max(y / z, limits[2]), limits[3])
    return focal[0] / z, -focal[0] * ray_x / z, focal[1] / z, -focal[1] * ray_y / z


@kernel(parallel=True)
def project_gaussians(
    means: Array, quats: Array, scales: Array, opacities: Array, colors: Array, probe: Array,
    camera: tuple[Array, Array, Array], size: tuple[int, int], constants: tuple[float, float, float],
) -> tuple[Array, Array]:  # fmt: skip
    """Splats "N 10" (see `_numba_blend`) and their boxes "N 4" in pixels, empty for what is not visible.

    `camera`: viewmat "4 4", intrinsics "3 3", limits of the Jacobian's rays; `constants`: near plane, eps2d and least
    alpha. A box holds exactly the pixels where alpha can reach the least alpha (Radl et al. 2024, "StopThePop").
    """
    view, intrinsic, limits = camera
    near, eps2d, min_alpha = constants
    focal = (intrinsic[0, 0], intrinsic[1, 1])
    count = means.shape[0]
    splats = np.zeros((count, 10), means.dtype)
    boxes = np.zeros((count, 4), np.int32)
    for block in prange(-(-count // BLOCK)):
        axes, in_camera, footprint = np.empty((3, 3)), np.empty((3, 3)), np.empty((3, 2))
        for n in range(block * BLOCK, min(count, (block + 1) * BLOCK)):
            x, y, z = _to_camera(means[n], view)
            if not (z >= near and opacities[n] >= min_alpha):
                continue
            _rotate(quats[n], axes)
            _project_axes(axes, scales[n], view, _jacobian(x, y, z, focal, limits), in_camera, footprint)
            xx, xy, yy = eps2d, 0.0, eps2d
            for k in range(3):
                xx += footprint[k, 0] * footprint[k, 0]
                xy += footprint[k, 0] * footprint[k, 1]
                yy += footprint[k, 1] * footprint[k, 1]
            determinant = xx * yy - xy * xy
            splats[n, 0] = focal[0] * x / z + intrinsic[0, 2] + probe[n, 0]
            splats[n, 1] = focal[1] * y / z + intrinsic[1, 2] + probe[n, 1]
            splats[n, 2], splats[n, 3], splats[n, 4] = yy / determinant, -xy / determinant, xx / determinant
            splats[n, 5], splats[n, 9] = opacities[n], z
            for channel in range(3):
                splats[n, 6 + channel] = colors[n, channel]
            reach = 2.0 * math.log(opacities[n] / min_alpha)
            for axis in range(2):
                radius = math.sqrt(reach * (xx if axis == 0 else yy)) + SLACK
                low, high = splats[n, axis] - radius - 0.5, splats[n, axis] + radius + 0.5
                boxes[n, 2 * axis] = min(max(math.ceil(low), 0), size[axis])
                boxes[n, 2 * axis + 1] = min(max(math.floor(high), 0), size[axis])
            if boxes[n, 0] >= boxes[n, 1] or boxes[n, 2] >= boxes[n, 3]:
                boxes[n] = 0
    return splats, boxes


@kernel(parallel=True)
def project_backward(
    means: Array, quats: Array, scales: Array, splats: Array, boxes: Array, camera: tuple[Array, Array, Array],
    grad_splats: Array, grads: tuple[Array, Array, Array],
) -> None:  # fmt: skip
    """Add to `grads` (of means, quats, scales) what `grad_splats` "N 10" gives them."""
    view, intrinsic, limits = camera
    focal = (intrinsic[0, 0], intrinsic[1, 1])
    count = means.shape[0]
    for block in prange(-(-count // BLOCK)):
        axes, grad_axes = np.empty((3, 3)), np.empty((3, 3))
        in_camera, footprint = np.empty((3, 3)), np.empty((3, 2))
        for n in range(block * BLOCK, min(count, (block + 1) * BLOCK)):
            if boxes[n, 0] >= boxes[n, 1]:
                continue
            x, y, z = _to_camera(means[n], view)
            jacobian = _jacobian(x, y, z, focal, limits)
            quat = _rotate(quats[n], axes)
            _project_axes(axes, scales[n], view, jacobian, in_camera, footprint)
            grad_cov = _covariance_gradient(splats[n], grad_splats[n])
            grad_jacobian = _axes_backward(
                axes, scales[n], view, jacobian, in_camera, footprint, grad_cov, grad_axes, grads[2][n]
            )
            _rotate_backward(quat, grad_axes, grads[1][n])
            _centre_backward((x, y, z), focal, limits, view, grad_splats[n], grad_jacobian, grads[0][n])


@kernel()
def _covariance_gradient(splat: Array, grad: Array) -> Any:
    """Twice the symmetric gradient -Q G Q of the covariance, from that of its inverse Q: entries xx, xy, yy."""
    xx, xy, yy = float(splat[2]), float(splat[3]), float(splat[4])
    g_xx, g_xy, g_yy = float(grad[2]), 0.5 * float(grad[3]), float(grad[4])
    left_xx, left_xy = xx * g_xx + xy * g_xy, xx * g_xy + xy * g_yy
    left_yx, left_yy = xy * g_xx + yy * g_xy, xy * g_xy + yy * g_yy
    return (
        -2.0 * (left_xx * xx + left_xy * xy),
        -2.0 * (left_xx * xy + left_xy * yy),
        -2.0 * (left_yx * xy + left_yy * yy),
    )


@kernel()
def _axes_backward(
    axes: Array, scale: Array, view: Array, jacobian: Any, in_camera: Array, footprint: Array, grad_cov: Any,
    grad_axes: Array, grad_scale: Array,
) -> Any:  # fmt: skip
    """Fill the rotation's gradient, add the scales', return the Jacobian's (xx, xz, yy, yz)."""
    j_xx, j_xz, j_yy, j_yz = jacobian
    g_xx, g_xz, g_yy, g_yz = 0.0, 0.0, 0.0, 0.0
    for k in range(3):
        grad_x = grad_cov[0] * footprint[k, 0] + grad_cov[1] * footprint[k, 1]
        grad_y = grad_cov[1] * footprint[k, 0] + grad_cov[2] * footprint[k, 1]
        g_xx += grad_x * in_camera[k, 0]
        g_xz += grad_x * in_camera[k, 2]
        g_yy += grad_y * in_camera[k, 1]
        g_yz += grad_y * in_camera[k, 2]
        camera_x, camera_y, camera_z = j_xx * grad_x, j_yy * grad_y, j_xz * grad_x + j_yz * grad_y
        along = 0.0
        for i in range(3):
            world = view[0, i] * camera_x + view[1, i] * camera_y + view[2, i] * camera_z
            grad_axes[i, k] = scale[k] * world
            along += axes[i, k] * world
        grad_scale[k] += along
    return g_xx, g_xz, g_yy, g_yz


@kernel()
def _rotate_backward(quat: Any, grad: Array, grad_quat: Array) -> None:
    """Add the gradient of the quaternion, from that of its matrix; its length has none."""
    w, x, y, z, length = quat
    g_w = 2 * (x * (grad[2, 1] - grad[1, 2]) + y * (grad[0, 2] - grad[2, 0]) + z * (grad[1, 0] - grad[0, 1]))
    s_xy, s_xz, s_yz = grad[0, 1] + grad[1, 0], grad[0, 2] + grad[2, 0], grad[1, 2] + grad[2, 1]
    g_x = 2 * (y * s_xy + z * s_xz + w * (grad[2, 1] - grad[1, 2]) - 2 * x * (grad[1, 1] + grad[2, 2]))
    g_y = 2 * (x * s_xy + z * s_yz + w * (grad[0, 2] - grad[2, 0]) - 2 * y * (grad[0, 0] + grad[2, 2]))
    g_z = 2 * (x * s_xz + y * s_yz + w * (grad[1, 0] - grad[0, 1]) - 2 * z * (grad[0, 0] + grad[1, 1]))
    radial = w * g_w + x * g_x + y * g_y + z * g_z
    grad_quat[0] += (g_w - radial * w) / length
    grad_quat[1] += (g_x - radial * x) / length
    grad_quat[2] += (g_y - radial * y) / length
    grad_quat[3] += (g_z - radial * z) / length


@kernel()
def _centre_backward(
    centre: Any, focal: Any, limits: Array, view: Array, grad: Array, grad_jacobian: Any, grad_mean: Array
) -> None:
    """Add the gradient of the world position, through the pixel, the depth and the Jacobian."""
    x, y, z = centre
    g_xx, g_xz, g_yy, g_yz = grad_jacobian
    ray_x, ray_y = min(max(x / z, limits[0]), limits[1]), min(max(y / z, limits[2]), limits[3])
    grad_x, grad_y = focal[0] / z * grad[0], focal[1] / z * grad[1]
    grad_z = grad[9] - (grad_x * x + grad_y * y) / z
    grad_z += (focal[0] * (ray_x * g_xz - g_xx) + focal[1] * (ray_y * g_yz - g_yy)) / (z * z)
    if limits[0] <= x / z <= limits[1]:
        grad_x -= focal[0] / (z * z) * g_xz
        grad_z += focal[0] * x / (z * z * z) * g_xz
    if limits[2] <= y / z <= limits[3]:
        grad_y -= focal[1] / (z * z) * g_yz
        grad_z += focal[1] * y / (z * z * z) * g_yz
    for i in range(3):
        grad_mean[i] += view[0, i] * grad_x + view[1, i] * grad_y + view[2, i] * grad_z
