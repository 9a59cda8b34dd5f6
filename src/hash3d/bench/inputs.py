"""What a system is measured on where nothing is given: an image, a shape to start from."""

from pathlib import Path

from PIL import Image, ImageDraw

PICTURE_SIZE = 512


def make_disc(folder: Path) -> Path:
    """Write a red disc on a transparent background."""
    picture = Image.new("RGBA", (PICTURE_SIZE, PICTURE_SIZE), (255, 255, 255, 0))
    margin = PICTURE_SIZE // 5
    ImageDraw.Draw(picture).ellipse((margin, margin, PICTURE_SIZE - margin, PICTURE_SIZE - margin), fill=(200, 40, 40))
    path = folder / "disc.png"
    picture.save(path)
    return path


def make_ball(folder: Path) -> Path:
    """A mesh of a ball whose colours are its positions, in place of what Shap-E would make of a text."""
    import trimesh

    ball = trimesh.creation.icosphere(subdivisions=4)
    ball.visual.vertex_colors = (255 * (0.5 + 0.5 * ball.vertices)).astype("uint8")
    path = folder / "ball.ply"
    ball.export(path)
    return path
