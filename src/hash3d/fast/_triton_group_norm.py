# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
"""Triton kernels of group normalisation with SiLU, channels last. `group_norm` is the reference implementation.

PyTorch's own kernel wants [N, C, H, W] contiguous and copies a channels-last image before and after. These read it as
it lies in memory: N times `rows` = H W pixels of C channels.

The input is x + s, with a shift s of each channel that the layer before left out (its bias, the timestep's embedding).
Forward: z = x a + b with a = weight / std and b = bias + (s - mean) a, one pair a channel of each image; y = z or
silu(z). Backward in x alone: dx = a dz - (m1 + (x + s - mean) m2 / var) / std with the group's means m1 of weight dz
and m2 of weight dz (x + s - mean), dz = dy silu'(z). (Wu and He 2018, "Group Normalization", eq. 1 and its derivative.)
"""

import triton
import triton.language as tl


@triton.jit
def _silu(z):
    return z * tl.sigmoid(z)


@triton.jit
def _silu_derivative(z):
    sigmoid = tl.sigmoid(z)
    return sigmoid * (1.0 + z * (1.0 - sigmoid))


@triton.jit
def _shift(first, second, image, channel, channels, kept, FIRST: tl.constexpr, SECOND: tl.constexpr):
    """Load the shift of some channels: `first` [C] plus `second` [N, C], where given."""
    shift = tl.zeros(channel.shape, tl.float32)
    if FIRST:
        shift += tl.load(first + channel, mask=kept, other=0.0).to(tl.float32)
    if SECOND:
        shift += tl.load(second + image * channels + channel, mask=kept, other=0.0).to(tl.float32)
    return shift


@triton.jit
def whole_group(
    x, first, second, y, weight, bias, rows, channels, width, eps,
    FIRST: tl.constexpr, SECOND: tl.constexpr, SILU: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Normalise one group of one image in one program."""
    image, group = tl.program_id(1), tl.program_id(0)
    row, column = tl.arange(0, ROWS)[:, None], tl.arange(0, WIDTH)[None, :]
    inside = (row < rows) & (column < width)
    offsets = image.to(tl.int64) * rows * channels + row * channels + group * width + column
    channel = group * width + column
    values = tl.load(x + offsets, mask=inside, other=0.0).to(tl.float32)
    values += _shift(first, second, image, channel, channels, column < width, FIRST, SECOND)
    values = tl.where(inside, values, 0.0)
    count = rows * width
    mean = tl.sum(tl.sum(values, axis=1), axis=0) / count
    centred = tl.where(inside, values - mean, 0.0)
    inverse = tl.rsqrt(tl.sum(tl.sum(centred * centred, axis=1), axis=0) / count + eps)
    gain = tl.load(weight + channel, mask=column < width, other=0.0).to(tl.float32)
    shift = tl.load(bias + channel, mask=column < width, other=0.0).to(tl.float32)
    z = centred * inverse * gain + shift
    if SILU:
        z = _silu(z)
    tl.store(y + offsets, z.to(y.dtype.element_ty), mask=inside)


@triton.jit
def forward_sums(
    x, first, second, sums, rows, channels, rows_each,
    FIRST: tl.constexpr, SECOND: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Sum x + s and its square over a part of the rows; `sums` is [N, parts, 2, C]."""
    part, image = tl.program_id(0), tl.program_id(1)
    channel = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
    kept = channel < channels
    shift = _shift(first, second, image, channel, channels, kept, FIRST, SECOND)
    total, squares = tl.zeros((ROWS, CHANNELS), tl.float32), tl.zeros((ROWS, CHANNELS), tl.float32)
    start = part * rows_each
    base = x + image.to(tl.int64) * rows * channels
    for offset in tl.range(0, rows_each, ROWS, num_stages=3):
        row = start + offset + tl.arange(0, ROWS)
        inside = (row[:, None] < tl.minimum(rows, start + rows_each)) & kept[None, :]
        values = tl.load(base + row.to(tl.int64)[:, None] * channels + channel[None, :], mask=inside, other=0.0)
        values = tl.where(inside, values.to(tl.float32) + shift[None, :], 0.0)
        total += values
        squares += values * values
    to = sums + ((image * tl.num_programs(0) + part) * 2) * channels + channel
    tl.store(to, tl.sum(total, axis=0), mask=kept)
    tl.store(to + channels, tl.sum(squares, axis=0), mask=kept)


@triton.jit
def finish_forward(
    sums, first, second, weight, bias, statistics, parts, rows, channels, width, eps,
    FIRST: tl.constexpr, SECOND: tl.constexpr, PARTS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Write a, b, mean - s and 1 / std of each channel of each image; `statistics` is [N, 4, C]."""
    group, image = tl.program_id(0), tl.program_id(1)
    column = tl.arange(0, WIDTH)
    channel = group * width + column
    total, squares = tl.zeros((WIDTH,), tl.float32), tl.zeros((WIDTH,), tl.float32)
    for begin in range(0, parts, PARTS):
        part = begin + tl.arange(0, PARTS)
        inside = (part[:, None] < parts) & (column[None, :] < width)
        at = sums + ((image * parts + part[:, None]) * 2) * channels + channel[None, :]
        total += tl.sum(tl.load(at, mask=inside, other=0.0), axis=0)
        squares += tl.sum(tl.load(at + channels, mask=inside, other=0.0), axis=0)
    count = rows * width
    mean = tl.sum(total, axis=0) / count
    inverse = tl.rsqrt(tl.maximum(tl.sum(squares, axis=0) / count - mean * mean, 0.0) + eps)
    kept = column < width
    gain = inverse * tl.load(weight + channel, mask=kept, other=0.0).to(tl.float32)
    centre = mean - _shift(first, second, image, channel, channels, kept, FIRST, SECOND)
    to = statistics + image * 4 * channels + channel
    tl.store(to, gain, mask=kept)
    tl.store(to + channels, tl.load(bias + channel, mask=kept, other=0.0).to(tl.float32) - centre * gain, mask=kept)
    tl.store(to + 2 * channels, centre, mask=kept)
    tl.store(to + 3 * channels, tl.zeros((WIDTH,), tl.float32) + inverse, mask=kept)


@triton.jit
def apply_forward(x, y, statistics, rows, channels, SILU: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr):
    """y = x a + b, or its SiLU."""
    image = tl.program_id(1)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
    kept = channel < channels
    inside = (row[:, None] < rows) & kept[None, :]
    line = statistics + image * 4 * channels + channel
    gain, shift = tl.load(line, mask=kept, other=0.0), tl.load(line + channels, mask=kept, other=0.0)
    offsets = image.to(tl.int64) * rows * channels + row.to(tl.int64)[:, None] * channels + channel[None, :]
    z = tl.load(x + offsets, mask=inside, other=0.0).to(tl.float32) * gain[None, :] + shift[None, :]
    if SILU:
        z = _silu(z)
    tl.store(y + offsets, z.to(y.dtype.element_ty), mask=inside)


@triton.jit
def backward_sums(
    x, dy, statistics, sums, rows, channels, rows_each, SILU: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr
):
    """Sum dz and dz (x - mean) / std over a part of the rows; `sums` is [N, parts, 2, C]."""
    part, image = tl.program_id(0), tl.program_id(1)
    channel = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
    kept = channel < channels
    line = statistics + image * 4 * channels + channel
    gain, shift = tl.load(line, mask=kept, other=0.0), tl.load(line + channels, mask=kept, other=0.0)
    mean = tl.load(line + 2 * channels, mask=kept, other=0.0)
    inverse = tl.load(line + 3 * channels, mask=kept, other=0.0)
    total, weighted = tl.zeros((ROWS, CHANNELS), tl.float32), tl.zeros((ROWS, CHANNELS), tl.float32)
    start = part * rows_each
    base = image.to(tl.int64) * rows * channels
    for offset in tl.range(0, rows_each, ROWS, num_stages=3):
        row = start + offset + tl.arange(0, ROWS)
        inside = (row[:, None] < tl.minimum(rows, start + rows_each)) & kept[None, :]
        offsets = base + row.to(tl.int64)[:, None] * channels + channel[None, :]
        values = tl.load(x + offsets, mask=inside, other=0.0).to(tl.float32)
        gradient = tl.load(dy + offsets, mask=inside, other=0.0).to(tl.float32)
        if SILU:
            gradient = gradient * _silu_derivative(values * gain[None, :] + shift[None, :])
        total += gradient
        weighted += gradient * (values - mean[None, :]) * inverse[None, :]
    to = sums + ((image * tl.num_programs(0) + part) * 2) * channels + channel
    tl.store(to, tl.sum(total, axis=0), mask=kept)
    tl.store(to + channels, tl.sum(weighted, axis=0), mask=kept)


@triton.jit
def finish_backward(
    sums, weight, statistics, coefficients, parts, rows, channels, width, PARTS: tl.constexpr, WIDTH: tl.constexpr
):
    """Write c and d of dx = a dz + c + d x, one pair a channel of each image; `coefficients` is [N, 2, C]."""
    group, image = tl.program_id(0), tl.program_id(1)
    column = tl.arange(0, WIDTH)
    channel = group * width + column
    kept = column < width
    total, weighted = tl.zeros((WIDTH,), tl.float32), tl.zeros((WIDTH,), tl.float32)
    for begin in range(0, parts, PARTS):
        part = begin + tl.arange(0, PARTS)
        inside = (part[:, None] < parts) & kept[None, :]
        at = sums + ((image * parts + part[:, None]) * 2) * channels + channel[None, :]
        total += tl.sum(tl.load(at, mask=inside, other=0.0), axis=0)
        weighted += tl.sum(tl.load(at + channels, mask=inside, other=0.0), axis=0)
    gain = tl.load(weight + channel, mask=kept, other=0.0).to(tl.float32)
    count = rows * width
    first_mean, second_mean = tl.sum(total * gain, axis=0) / count, tl.sum(weighted * gain, axis=0) / count
    line = statistics + image * 4 * channels + channel
    mean = tl.load(line + 2 * channels, mask=kept, other=0.0)
    inverse = tl.load(line + 3 * channels, mask=kept, other=0.0)
    factor = -inverse * inverse * second_mean
    to = coefficients + image * 2 * channels + channel
    tl.store(to, -inverse * first_mean - factor * mean, mask=kept)
    tl.store(to + channels, factor, mask=kept)


@triton.jit
def apply_backward(
    x, dy, dx, statistics, coefficients, rows, channels, SILU: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr
):
    """dx = a dz + c + d x."""
    image = tl.program_id(1)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
    kept = channel < channels
    inside = (row[:, None] < rows) & kept[None, :]
    offsets = image.to(tl.int64) * rows * channels + row.to(tl.int64)[:, None] * channels + channel[None, :]
    values = tl.load(x + offsets, mask=inside, other=0.0).to(tl.float32)
    gradient = tl.load(dy + offsets, mask=inside, other=0.0).to(tl.float32)
    line, end = statistics + image * 4 * channels + channel, coefficients + image * 2 * channels + channel
    gain, shift = tl.load(line, mask=kept, other=0.0), tl.load(line + channels, mask=kept, other=0.0)
    constant, factor = tl.load(end, mask=kept, other=0.0), tl.load(end + channels, mask=kept, other=0.0)
    if SILU:
        gradient = gradient * _silu_derivative(values * gain[None, :] + shift[None, :])
    result = gradient * gain[None, :] + constant[None, :] + values * factor[None, :]
    tl.store(dx + offsets, result.to(dx.dtype.element_ty), mask=inside)
