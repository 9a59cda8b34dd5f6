# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
"""Group normalisation with SiLU on CUDA, channels last: the kernels. `group_norm` is their definition.

PyTorch's own kernel reads [N, C, H, W] as planes, so that a channels-last picture is copied there and back around each
normalisation. Here a picture is what it is in memory, N times `rows` = H W pixels of C channels.

What is normalised is x + s, with a shift s of each channel that the layer before has left to be added (its bias, the
embedding of the timestep). Forward: z = x a + b with a = weight / std and b = bias + (s - mean) a, one pair a channel
of each picture; y = z or silu(z). Backward in x alone: dx = a dz - (m1 + (x + s - mean) m2 / var) / std with the
group's means m1 of weight dz and m2 of weight dz (x + s - mean), dz = dy silu'(z). (Wu and He 2018, "Group
Normalization", eq. 1 and its derivative.)
"""

import triton
import triton.language as tl


@triton.jit
def _silu(z):
    return z * tl.sigmoid(z)


@triton.jit
def _silu_slope(z):
    share = tl.sigmoid(z)
    return share * (1.0 + z * (1.0 - share))


@triton.jit
def _shift(first, second, picture, channel, channels, kept, FIRST: tl.constexpr, SECOND: tl.constexpr):
    """The shift of some channels: `first` [C] plus `second` [N, C], where they are there."""
    shift = tl.zeros(channel.shape, tl.float32)
    if FIRST:
        shift += tl.load(first + channel, mask=kept, other=0.0).to(tl.float32)
    if SECOND:
        shift += tl.load(second + picture * channels + channel, mask=kept, other=0.0).to(tl.float32)
    return shift


@triton.jit
def whole_group(
    x, first, second, y, weight, bias, rows, channels, width, eps,
    FIRST: tl.constexpr, SECOND: tl.constexpr, SILU: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """One program normalises one group of one picture."""
    picture, group = tl.program_id(1), tl.program_id(0)
    row, column = tl.arange(0, ROWS)[:, None], tl.arange(0, WIDTH)[None, :]
    inside = (row < rows) & (column < width)
    places = picture.to(tl.int64) * rows * channels + row * channels + group * width + column
    channel = group * width + column
    values = tl.load(x + places, mask=inside, other=0.0).to(tl.float32)
    values += _shift(first, second, picture, channel, channels, column < width, FIRST, SECOND)
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
    tl.store(y + places, z.to(y.dtype.element_ty), mask=inside)


@triton.jit
def channel_sums(
    x, first, second, sums, rows, channels, rows_each,
    FIRST: tl.constexpr, SECOND: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Sums of x + s and of its square over a part of the rows; `sums` is [N, parts, 2, C]."""
    part, picture = tl.program_id(0), tl.program_id(1)
    channel = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
    kept = channel < channels
    shift = _shift(first, second, picture, channel, channels, kept, FIRST, SECOND)
    total, squares = tl.zeros((ROWS, CHANNELS), tl.float32), tl.zeros((ROWS, CHANNELS), tl.float32)
    start = part * rows_each
    base = x + picture.to(tl.int64) * rows * channels
    for offset in tl.range(0, rows_each, ROWS, num_stages=3):
        row = start + offset + tl.arange(0, ROWS)
        inside = (row[:, None] < tl.minimum(rows, start + rows_each)) & kept[None, :]
        values = tl.load(base + row.to(tl.int64)[:, None] * channels + channel[None, :], mask=inside, other=0.0)
        values = tl.where(inside, values.to(tl.float32) + shift[None, :], 0.0)
        total += values
        squares += values * values
    to = sums + ((picture * tl.num_programs(0) + part) * 2) * channels + channel
    tl.store(to, tl.sum(total, axis=0), mask=kept)
    tl.store(to + channels, tl.sum(squares, axis=0), mask=kept)


@triton.jit
def finish_forward(
    sums, first, second, weight, bias, lines, parts, rows, channels, width, eps,
    FIRST: tl.constexpr, SECOND: tl.constexpr, PARTS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """a, b, mean - s and 1 / std of each channel of each picture from the sums; `lines` is [N, 4, C]."""
    group, picture = tl.program_id(0), tl.program_id(1)
    column = tl.arange(0, WIDTH)
    channel = group * width + column
    total, squares = tl.zeros((WIDTH,), tl.float32), tl.zeros((WIDTH,), tl.float32)
    for begin in range(0, parts, PARTS):
        part = begin + tl.arange(0, PARTS)
        inside = (part[:, None] < parts) & (column[None, :] < width)
        at = sums + ((picture * parts + part[:, None]) * 2) * channels + channel[None, :]
        total += tl.sum(tl.load(at, mask=inside, other=0.0), axis=0)
        squares += tl.sum(tl.load(at + channels, mask=inside, other=0.0), axis=0)
    count = rows * width
    mean = tl.sum(total, axis=0) / count
    inverse = tl.rsqrt(tl.maximum(tl.sum(squares, axis=0) / count - mean * mean, 0.0) + eps)
    kept = column < width
    gain = inverse * tl.load(weight + channel, mask=kept, other=0.0).to(tl.float32)
    centre = mean - _shift(first, second, picture, channel, channels, kept, FIRST, SECOND)
    to = lines + picture * 4 * channels + channel
    tl.store(to, gain, mask=kept)
    tl.store(to + channels, tl.load(bias + channel, mask=kept, other=0.0).to(tl.float32) - centre * gain, mask=kept)
    tl.store(to + 2 * channels, centre, mask=kept)
    tl.store(to + 3 * channels, tl.zeros((WIDTH,), tl.float32) + inverse, mask=kept)


@triton.jit
def apply(x, y, lines, rows, channels, SILU: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr):
    """y = x a + b, or its SiLU."""
    picture = tl.program_id(1)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
    kept = channel < channels
    inside = (row[:, None] < rows) & kept[None, :]
    line = lines + picture * 4 * channels + channel
    gain, shift = tl.load(line, mask=kept, other=0.0), tl.load(line + channels, mask=kept, other=0.0)
    places = picture.to(tl.int64) * rows * channels + row.to(tl.int64)[:, None] * channels + channel[None, :]
    z = tl.load(x + places, mask=inside, other=0.0).to(tl.float32) * gain[None, :] + shift[None, :]
    if SILU:
        z = _silu(z)
    tl.store(y + places, z.to(y.dtype.element_ty), mask=inside)


@triton.jit
def gradient_sums(
    x, dy, lines, sums, rows, channels, rows_each, SILU: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr
):
    """Sums of dz and of dz (x - mean) / std over a part of the rows; `sums` is [N, parts, 2, C]."""
    part, picture = tl.program_id(0), tl.program_id(1)
    channel = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
    kept = channel < channels
    line = lines + picture * 4 * channels + channel
    gain, shift = tl.load(line, mask=kept, other=0.0), tl.load(line + channels, mask=kept, other=0.0)
    mean = tl.load(line + 2 * channels, mask=kept, other=0.0)
    inverse = tl.load(line + 3 * channels, mask=kept, other=0.0)
    total, products = tl.zeros((ROWS, CHANNELS), tl.float32), tl.zeros((ROWS, CHANNELS), tl.float32)
    start = part * rows_each
    base = picture.to(tl.int64) * rows * channels
    for offset in tl.range(0, rows_each, ROWS, num_stages=3):
        row = start + offset + tl.arange(0, ROWS)
        inside = (row[:, None] < tl.minimum(rows, start + rows_each)) & kept[None, :]
        places = base + row.to(tl.int64)[:, None] * channels + channel[None, :]
        values = tl.load(x + places, mask=inside, other=0.0).to(tl.float32)
        slope = tl.load(dy + places, mask=inside, other=0.0).to(tl.float32)
        if SILU:
            slope = slope * _silu_slope(values * gain[None, :] + shift[None, :])
        total += slope
        products += slope * (values - mean[None, :]) * inverse[None, :]
    to = sums + ((picture * tl.num_programs(0) + part) * 2) * channels + channel
    tl.store(to, tl.sum(total, axis=0), mask=kept)
    tl.store(to + channels, tl.sum(products, axis=0), mask=kept)


@triton.jit
def finish_backward(sums, weight, lines, out, parts, rows, channels, width, PARTS: tl.constexpr, WIDTH: tl.constexpr):
    """c and d of dx = a dz + c + d x, one pair a channel of each picture; `out` is [N, 2, C]."""
    group, picture = tl.program_id(0), tl.program_id(1)
    column = tl.arange(0, WIDTH)
    channel = group * width + column
    kept = column < width
    total, products = tl.zeros((WIDTH,), tl.float32), tl.zeros((WIDTH,), tl.float32)
    for begin in range(0, parts, PARTS):
        part = begin + tl.arange(0, PARTS)
        inside = (part[:, None] < parts) & kept[None, :]
        at = sums + ((picture * parts + part[:, None]) * 2) * channels + channel[None, :]
        total += tl.sum(tl.load(at, mask=inside, other=0.0), axis=0)
        products += tl.sum(tl.load(at + channels, mask=inside, other=0.0), axis=0)
    gain = tl.load(weight + channel, mask=kept, other=0.0).to(tl.float32)
    count = rows * width
    first_mean, second_mean = tl.sum(total * gain, axis=0) / count, tl.sum(products * gain, axis=0) / count
    line = lines + picture * 4 * channels + channel
    mean = tl.load(line + 2 * channels, mask=kept, other=0.0)
    inverse = tl.load(line + 3 * channels, mask=kept, other=0.0)
    factor = -inverse * inverse * second_mean
    to = out + picture * 2 * channels + channel
    tl.store(to, -inverse * first_mean - factor * mean, mask=kept)
    tl.store(to + channels, factor, mask=kept)


@triton.jit
def gradient_in_x(values, slope, line, end, channels, kept, SILU: tl.constexpr):
    """a dz + c + d x of numbers [rows, channels] of one picture, for the gradient `slope` in the result."""
    gain, shift = tl.load(line, mask=kept, other=0.0), tl.load(line + channels, mask=kept, other=0.0)
    constant, factor = tl.load(end, mask=kept, other=0.0), tl.load(end + channels, mask=kept, other=0.0)
    if SILU:
        slope = slope * _silu_slope(values * gain[None, :] + shift[None, :])
    return slope * gain[None, :] + constant[None, :] + values * factor[None, :]


@triton.jit
def apply_gradient(
    x, dy, plus, dx, lines, ends, rows, channels,
    SILU: tl.constexpr, PLUS: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """dx = a dz + c + d x, plus another gradient if there is one."""
    picture = tl.program_id(1)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
    kept = channel < channels
    inside = (row[:, None] < rows) & kept[None, :]
    places = picture.to(tl.int64) * rows * channels + row.to(tl.int64)[:, None] * channels + channel[None, :]
    values = tl.load(x + places, mask=inside, other=0.0).to(tl.float32)
    slope = tl.load(dy + places, mask=inside, other=0.0).to(tl.float32)
    line, end = lines + picture * 4 * channels + channel, ends + picture * 2 * channels + channel
    result = gradient_in_x(values, slope, line, end, channels, kept, SILU)
    if PLUS:
        result += tl.load(plus + places, mask=inside, other=0.0).to(tl.float32)
    tl.store(dx + places, result.to(dx.dtype.element_ty), mask=inside)
