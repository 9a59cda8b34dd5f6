"""What is written is read again, in half precision."""

import json

import pytest
import torch

from hash3d.pictures.classifier import ImageClassifier, load_classifier


def test_a_classifier_that_is_loaded_says_the_same(tmp_path):
    torch.manual_seed(0)
    classifier = ImageClassifier((8, 8), 32, (3, 2))
    classifier.score(torch.rand(4, 3, 32, 32))  # Moves the statistics of the normalisations.
    classifier.eval().write(tmp_path, {"heights": [1.0, 2.0, 4.0], "colors": ["red", "blue"]})
    loaded, values = load_classifier(tmp_path, "heights", "colors")
    assert values["heights"] == [1.0, 2.0, 4.0]
    images = torch.rand(5, 3, 48, 64) * 2 - 1
    for found, expected in zip(loaded.score(images), classifier.score(images), strict=True):
        assert found.exp().sum(1) == pytest.approx(torch.ones(5), abs=1e-5)
        assert found == pytest.approx(expected.detach(), abs=1e-2)  # Half precision has eleven bits.


def test_a_folder_of_other_attributes_is_told(tmp_path):
    ImageClassifier((8,), 32, (2,)).write(tmp_path, {"colors": ["red", "blue"]})
    assert json.loads((tmp_path / "config.json").read_text())["widths"] == [8]
    with pytest.raises(KeyError, match="heights"):
        load_classifier(tmp_path, "heights")
