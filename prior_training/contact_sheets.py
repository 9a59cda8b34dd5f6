"""Contact sheets whose pictures have their captions below."""

import textwrap

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

LINE = 11
"""Pixels of a line of text."""
LETTER = 5.2
"""Pixels of a letter, about."""


def captioned_contact_sheet(pictures: Float[Tensor, "R C 3 S S"], captions: list[list[str]]) -> Image.Image:
    """R rows and C columns of pictures in [-1, 1], each with its caption below, wrapped to the picture's width.

    A row is as high as its pictures and as many lines of LINE pixels as the longest caption of the sheet takes.
    """
    rows, columns, _, size, _ = pictures.shape
    if [len(row) for row in captions] != [columns] * rows:
        raise ValueError(f"Expected captions for {rows} rows of {columns} pictures, but got {captions}.")
    lines = [[textwrap.wrap(text, max(8, int(size / LETTER))) for text in row] for row in captions]
    band = LINE * max(len(wrapped) for row in lines for wrapped in row)
    sheet = Image.new("RGB", (columns * size, rows * (size + band)), "white")
    pixels = ((pictures.clamp(-1, 1) + 1) * 127.5).round().permute(0, 1, 3, 4, 2).cpu().numpy().astype(np.uint8)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(9)
    for row in range(rows):
        for column in range(columns):
            left, top = column * size, row * (size + band)
            sheet.paste(Image.fromarray(pixels[row, column]), (left, top))
            for number, line in enumerate(lines[row][column]):
                draw.text((left + 2, top + size + number * LINE), line, fill="black", font=font)
    return sheet
