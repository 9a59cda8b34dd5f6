# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
"""The world's patterns inside the Triton kernel: the same formulas as `textures`."""

import triton
import triton.language as tl


@triton.jit
def _words(x, line, width):
    end = 0.62 + 0.28 * tl.sin(2.4 * line + 1.0)
    u = x / width
    ink = tl.sin(17.0 * u + 5.0 * line) + tl.sin(29.0 * u + 2.0 * line) > -0.75
    return tl.where(ink & (u > -0.9) & (u < end), 1, 0)


@triton.jit
def _corner(i, j, k, u, v, w, a: tl.constexpr, b: tl.constexpr, c: tl.constexpr):
    bits = ((i + a) * 73856093) ^ ((j + b) * 19349663) ^ ((k + c) * 83492791)
    bits = ((bits ^ (bits >> 7)) * 9605) & 0xFFFF
    weight = (u if a else 1.0 - u) * (v if b else 1.0 - v) * (w if c else 1.0 - w)
    return weight * bits.to(tl.float32)


@triton.jit
def _noise(x, y, z):
    i = tl.floor(x)
    j = tl.floor(y)
    k = tl.floor(z)
    u = (x - i) * (x - i) * (3.0 - 2.0 * (x - i))
    v = (y - j) * (y - j) * (3.0 - 2.0 * (y - j))
    w = (z - k) * (z - k) * (3.0 - 2.0 * (z - k))
    i = i.to(tl.int32)
    j = j.to(tl.int32)
    k = k.to(tl.int32)
    total = _corner(i, j, k, u, v, w, 0, 0, 0) + _corner(i, j, k, u, v, w, 1, 0, 0)
    total += _corner(i, j, k, u, v, w, 0, 1, 0) + _corner(i, j, k, u, v, w, 1, 1, 0)
    total += _corner(i, j, k, u, v, w, 0, 0, 1) + _corner(i, j, k, u, v, w, 1, 0, 1)
    total += _corner(i, j, k, u, v, w, 0, 1, 1) + _corner(i, j, k, u, v, w, 1, 1, 1)
    return total / 65535.0


@triton.jit
def _logo(x, y, z, n0, n1, n2, n3):
    u = tl.abs(x) / n2
    v = tl.abs(y - n1) / n2
    square = u * u + v * v
    far = tl.maximum(u, v)
    disc = tl.where(square < 1.0, 1.0, 0.0)
    ring = tl.where(square > 0.36, disc, 0.0)
    block = tl.where(far < 0.85, 1.0, 0.0)
    cross = tl.where((far < 1.0) & (tl.minimum(u, v) < 0.33), 1.0, 0.0)
    sign = tl.where(n3 < 1.0, disc, tl.where(n3 < 2.0, ring, tl.where(n3 < 3.0, block, cross)))
    rows = (n1 - 1.2 * n2 - y) / 0.16
    line = tl.floor(rows)
    text = (rows > 0.0) & (rows < 3.0) & (rows - line > 0.4) & (_words(x, line, n0) > 0)
    return tl.where(z > 0.0, sign, 0.0), tl.where(text & (z > 0.0), 1.0, 0.0)


@triton.jit
def _text(x, y, n0, n1, n3):
    """Lines of text of width n0 from height n1 down."""
    rows = n3 * (n1 - y) / 6.2832
    line = tl.floor(rows)
    return (rows - line > 0.45) & (_words(x, line, n0) > 0)


@triton.jit
def _label(x, y, z, n0, n1, n2, n3):
    inside = (tl.abs(x) < n0) & (tl.abs(y - n1) < n2) & (z > 0.0)
    return tl.where(inside, 1.0, 0.0), tl.where(inside & _text(x, y, n0, n1, n3), 1.0, 0.0)


@triton.jit
def _wrap(x, y, z, n0, n1, n2, n3):
    band = tl.where(tl.abs(y - n1) < n2, 1.0, 0.0)
    return band, tl.where(_text(tl.where(tl.abs(x) > tl.abs(z), z, x), y, n0, n1, n3), band, 0.0)


@triton.jit
def _face(x, y, z, n0, n1, n2, n3):
    bx = x / 0.6
    by = (y - n3) / 0.5
    belly = tl.where((bx * bx + by * by < 1.0) & (z > 0.0), 1.0, 0.0)
    ex = tl.abs(x) - n0
    ey = y - n1
    return belly, tl.where((ex * ex + ey * ey < n2 * n2) & (z > 0.0), 1.0, 0.0)


@triton.jit
def _blotches(x, y, z, along, n0, n1, n2, n3):
    warped = tl.sin(n0 * along + n1 + 2.0 * tl.sin(0.7 * n0 * y + n3))
    return warped * tl.sin(1.3 * n0 * z + 2.0 * n1 + 1.5 * tl.sin(0.9 * n0 * x + n3)) * n2 + 0.5


@triton.jit
def _dots(x, y, z, n0, n1, n2):
    cx = n0 * x + n1
    cy = n0 * y + n1
    cz = n0 * z + n1
    cx = cx - tl.floor(cx) - 0.5
    cy = cy - tl.floor(cy) - 0.5
    cz = cz - tl.floor(cz) - 0.5
    return tl.where(cx * cx + cy * cy + cz * cz < n2 * n2, 1.0, 0.0)


@triton.jit
def _wood(x, y, z, n0, n1, n2, n3):
    hx = x - 0.45
    hz = z * n2 + y * (1.0 - n2) - 0.35
    heart = tl.sqrt(hx * hx + hz * hz + 1e-12)
    return 0.4 + 0.6 * tl.sin(n0 * heart + n3 * (tl.sin(2.1 * y + n1) + tl.sin(1.7 * z + 2.3 * x + n1)))


@triton.jit
def _patches(x, y, z, n0, n1, n2, n3):
    patch = tl.sin(n0 * x + n1 + 1.3 * tl.sin(1.3 * n0 * y + n3))
    patch = patch * tl.sin(n0 * y + n3 + 1.3 * tl.sin(1.1 * n0 * z + n1))
    return tl.where(patch + 0.5 * tl.sin(1.7 * n0 * z + n1 + n3) > n2, 1.0, 0.0)


@triton.jit
def _zigzag(x, y, z, n0, n1, n2, n3):
    tooth = n1 * (x + z)
    wave = tl.abs(tooth - tl.floor(tooth) - 0.5)
    return tl.where(tl.sin(n0 * (y + n2 * wave)) > n3, 1.0, 0.0)


@triton.jit
def _mottled(x, y, z, n0, n1, n2):
    rough = _noise(n0 * x + n1, n0 * y + n1, n0 * z + n1)
    fine = _noise(2.0 * (n0 * x + n1), 2.0 * (n0 * y + n1), 2.0 * (n0 * z + n1))
    return ((rough + 0.5 * fine) / 1.5 - 0.5) * n2 + 0.5


@triton.jit
def _mortar(x, y, z, n0):
    course = n0 * y
    brick = 0.5 * n0 * (x + z) + 0.5 * tl.floor(course)
    return tl.where((course - tl.floor(course) < 0.14) | (brick - tl.floor(brick) < 0.08), 1.0, 0.0)


@triton.jit
def _shares(row, x, y, z):
    """Shares of the second and third colour (textures.py)."""
    pattern = tl.load(row + 23)
    n0 = tl.load(row + 36)
    n1 = tl.load(row + 37)
    n2 = tl.load(row + 38)
    n3 = tl.load(row + 39)
    along = x * tl.load(row + 33) + y * tl.load(row + 34) + z * tl.load(row + 35)
    second = x * 0.0
    third = x * 0.0
    if pattern == 1.0:
        second = tl.sin(n0 * along + n1) * n2 + 0.5 + n3
    elif pattern == 2.0:
        second = tl.sin(n0 * x + n1) * tl.sin(n0 * y + n1) * tl.sin(n0 * z + n1) * n2 * 4.0 + 0.5
    elif pattern == 3.0:
        second = 0.5 + 0.5 * n0 * along + n1
    elif pattern == 4.0:
        second = _blotches(x, y, z, along, n0, n1, n2, n3)
    elif pattern == 5.0:
        second, third = _label(x, y, z, n0, n1, n2, n3)
    elif pattern == 6.0:
        second = _dots(x, y, z, n0, n1, n2)
    elif pattern == 7.0:
        second = tl.where(tl.abs(along - n0) < n1, 1.0, 0.0)
        third = tl.where(tl.abs(along - n0) < n2, 1.0, 0.0)
    elif pattern == 8.0:
        second = tl.where(along > n0, 1.0, 0.0)
    elif pattern == 9.0:
        second, third = _face(x, y, z, n0, n1, n2, n3)
    elif pattern == 10.0:
        second = _wood(x, y, z, n0, n1, n2, n3)
    elif pattern == 11.0:
        second = _patches(x, y, z, n0, n1, n2, n3)
    elif pattern == 12.0:
        second = _zigzag(x, y, z, n0, n1, n2, n3)
    elif pattern == 13.0:
        second, third = _logo(x, y, z, n0, n1, n2, n3)
    elif pattern == 14.0:
        second = _mottled(x, y, z, n0, n1, n2)
    elif pattern == 15.0:
        second = tl.where(_noise(n0 * x + n1, n0 * y + n1, n0 * z + n1) > n2, 1.0, 0.0)
    elif pattern == 16.0:
        second = _mortar(x, y, z, n0)
    elif pattern == 17.0:
        second, third = _wrap(x, y, z, n0, n1, n2, n3)
    return tl.minimum(tl.maximum(second, 0.0), 1.0), third
