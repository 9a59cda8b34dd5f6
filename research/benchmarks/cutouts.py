"""How well a background is removed: objects with a known alpha over plain grounds, as photos have them.

`python -m research.benchmarks.cutouts OBJECTS... --white OBJECTS...`: images with an alpha channel. Each is laid over a
ground of its own, those of --white over white: plain, or falling off to the corners, with a gradient, with a soft
shadow, or all of these; with noise, as JPEG.
"""

import argparse
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from hash3d.pictures import PictureError, load_picture, read_rgba

Doubles = npt.NDArray[np.float64]
SIZE = 384
GROUNDS = (
    (0.97, 0.97, 0.97),
    (0.82, 0.82, 0.80),
    (0.55, 0.57, 0.60),
    (0.90, 0.84, 0.74),
    (0.62, 0.74, 0.86),
    (0.2, 0.2, 0.22),
)
KINDS = ("plain", "vignette", "gradient", "shadow", "all")


def compose(rgba: Doubles, kind: str, generator: np.random.Generator, *, white: bool) -> Doubles:
    """Lay an object "H W 4" over a ground of a kind. Returns RGB "H W 3" in [0, 1]."""
    rows, columns = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    chosen = generator.integers(len(GROUNDS))
    ground = np.array(GROUNDS[0 if white else chosen]) * np.ones((SIZE, SIZE, 1))
    if kind in ("vignette", "all"):
        ground = ground * (1.0 - generator.uniform(0.08, 0.25) * (rows**2 + columns**2) / 2.0)[..., None]
    if kind in ("gradient", "all"):
        turn = generator.uniform(0.0, 2.0 * np.pi)
        ground = (
            ground
            * (1.0 - generator.uniform(0.05, 0.12) * (1.0 + np.cos(turn) * rows + np.sin(turn) * columns))[..., None]
        )
    alpha = rgba[..., 3]
    if kind in ("shadow", "all"):
        reach = generator.uniform(0.03, 0.08) * SIZE
        flat = ndimage.zoom(alpha, (0.35, 1.0), order=1)
        bottom = int(np.flatnonzero((alpha > 0.5).any(axis=1))[-1])
        cast, top = np.zeros_like(alpha), max(bottom - len(flat) + len(flat) // 3, 0)
        height = min(len(flat), SIZE - top)
        cast[top : top + height] = flat[:height]
        cast = ndimage.shift(cast, (0.0, generator.uniform(-0.08, 0.08) * SIZE), order=1)
        shade = ndimage.gaussian_filter(cast, reach) * generator.uniform(0.25, 0.55)
        ground = ground * (1.0 - shade.clip(0.0, 1.0))[..., None]
    picture = alpha[..., None] * rgba[..., :3] + (1.0 - alpha[..., None]) * ground
    return (picture + generator.normal(0.0, 0.004, picture.shape)).clip(0.0, 1.0)


def measure(path: Path, kind: str, seed: int, folder: Path, *, white: bool) -> tuple[float, Doubles, Doubles]:
    """Return alpha's IoU of one object over one ground, the photo, and what was cut out on magenta."""
    whole = Image.fromarray((read_rgba(path) * 255).astype(np.uint8))
    item, rgba = whole.crop(whole.getchannel("A").getbbox()), np.zeros((SIZE, SIZE, 4))
    item.thumbnail((int(0.62 * SIZE), int(0.62 * SIZE)))
    top, left = (SIZE - item.height) // 2, (SIZE - item.width) // 2
    rgba[top : top + item.height, left : left + item.width] = np.asarray(item) / 255.0
    photo = compose(rgba, kind, np.random.default_rng(seed), white=white)
    file = folder / f"{path.parent.name}-{path.stem}-{kind}.jpg"
    Image.fromarray((photo * 255.0).round().astype(np.uint8)).save(file, quality=92)
    found, truth = np.zeros((SIZE, SIZE, 4)), rgba[..., 3]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with suppress(PictureError):  # Nothing is cut out.
            found = load_picture(file).double().numpy()
    iou = float(np.minimum(found[..., 3], truth).sum() / np.maximum(found[..., 3], truth).sum())
    alpha = found[..., 3:]
    return iou, photo, alpha * found[..., :3] + (1.0 - alpha) * np.array([1.0, 0.0, 1.0])


def main() -> None:
    """Measure all, print a row a kind, and write a sheet of the photos and of what was cut out, on magenta."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("objects", nargs="+", type=Path)
    parser.add_argument("--white", nargs="*", type=Path, default=[])
    parser.add_argument("--out", type=Path, default=Path("outputs/cutouts"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    cells, scores = [], dict[str, list[float]]()
    for number, path in enumerate([*given.objects, *given.white]):
        kind, white = KINDS[number % len(KINDS)], number >= len(given.objects)
        iou, photo, cut = measure(path, kind, number, given.out, white=white)
        scores.setdefault(f"white, {kind}" if white else kind, []).append(iou)
        cells.append(np.concatenate([photo, cut], axis=1)[::3, ::3])
        print(f"{path.parent.name}/{path.stem} {kind} {iou:.3f}", flush=True)
    cells += [np.ones_like(cells[0])] * (-len(cells) % 5)
    rows = [np.concatenate(cells[start : start + 5], axis=1) for start in range(0, len(cells), 5)]
    Image.fromarray((np.concatenate(rows) * 255.0).astype(np.uint8)).save(given.out / "sheet.png")
    for kind, values in scores.items():
        print(f"| {kind} | {len(values)} | {np.mean(values):.3f} | {np.min(values):.3f} |")
    together = [each for values in scores.values() for each in values]
    print(f"| together | {len(together)} | {np.mean(together):.3f} | {np.min(together):.3f} |")


if __name__ == "__main__":
    main()
