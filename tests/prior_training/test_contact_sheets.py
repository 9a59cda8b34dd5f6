import numpy as np
import pytest
import torch

from prior_training.contact_sheets import LINE, captioned_contact_sheet


def test_a_sheet_holds_its_pictures_and_room_for_its_captions():
    pictures = torch.linspace(-1, 1, 6).view(2, 3, 1, 1, 1).expand(2, 3, 3, 64, 64)
    sheet = captioned_contact_sheet(pictures, [["a mug", "a car", "x"], ["a red mug with a", "y", "z"]])
    assert sheet.size == (3 * 64, 2 * (64 + 2 * LINE))  # The longest caption takes two lines of 12 letters.
    pixels = np.asarray(sheet)
    for row in range(2):
        for column in range(3):
            top = row * (64 + 2 * LINE)
            square = pixels[top : top + 64, column * 64 : column * 64 + 64]
            assert np.unique(square).tolist() == [round(255 * (3 * row + column) / 5)]
    assert pixels[64 : 64 + LINE, :64].min() < 128  # Letters are dark.


def test_a_caption_for_each_picture():
    with pytest.raises(ValueError, match="Expected captions for 1 rows of 2 pictures"):
        captioned_contact_sheet(torch.zeros(1, 2, 3, 8, 8), [["one"]])
