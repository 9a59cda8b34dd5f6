"""Objects that a feature depends on: what they hold counts."""

import numpy as np
import pytest
import torch
from PIL import Image

from hash3d.cache.calls import describe


def sprite(*color):
    picture = Image.fromarray(np.eye(4, dtype=np.uint8))
    picture.putpalette([255, 255, 255, *color])
    return picture


class Table:
    """Numbers with labels, as of pandas."""

    def __init__(self):
        self.axes = [np.arange(2)]

    def __array__(self, dtype=None, copy=None):
        return np.zeros(2)


def test_a_picture_counts_with_its_palette():
    assert describe(sprite(1, 2, 3)) == describe(sprite(1, 2, 3))
    assert describe(sprite(1, 2, 3)) != describe(sprite(1, 2, 4))


def test_a_table_counts_with_its_labels():
    table = Table()
    before = describe(table)
    assert describe(table) == before
    table.axes[0][1] = 7
    assert describe(table) != before


class Token(torch.nn.Module):
    """A learned word in a part of its own."""

    def __init__(self):
        super().__init__()
        self.word = torch.nn.Embedding(1, 4)
        self.register_buffer("scale", torch.ones(1))


@pytest.mark.parametrize("write", [
    lambda token: token.word.weight.add_(1.0), lambda token: token.scale.mul_(2.0),
    lambda token: token.load_state_dict(Token().state_dict()),
    lambda token: setattr(token, "word", torch.nn.Embedding(1, 4)),
])  # fmt: skip
@pytest.mark.parametrize("of", [lambda token: token, lambda token: [token.word, token.scale]])
def test_a_module_counts_with_its_weights(write, of):
    token = Token()
    before = describe(of(token))
    assert describe(of(token)) == before
    with torch.no_grad():
        write(token)
    assert describe(of(token)) != before
