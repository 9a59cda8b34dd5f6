import json

import pytest
import torch

from hash3d.guidance.stable_diffusion import VIEWS, view_index
from prior_training import matcher, matcher_views
from prior_training.matcher_network import Matcher
from prior_training.matcher_views import LabelledViews, augment, body_colors, body_rgb, sample_upright, view_angles
from prior_training.world.captions import describe
from prior_training.world.words import COLORS, NOUNS

CPU = torch.device("cpu")


@pytest.fixture
def discs(monkeypatch):
    """In place of the sphere tracer: a disc of the colour of each object's body."""

    def render(objects, cameras):
        rows = torch.arange(cameras.height) + 0.5 - cameras.height / 2
        inside = rows[:, None] ** 2 + rows[None] ** 2 < (0.35 * cameras.height) ** 2
        colors = torch.cat([body_rgb(objects), torch.ones(len(objects), 1)], dim=1)
        background = torch.tensor([1.0, 1.0, 1.0, 0.0])
        pixels = torch.where(inside[..., None], colors[:, None, None], background)
        return (255 * pixels + 0.5).to(torch.uint8)

    monkeypatch.setattr(matcher_views, "render", render)
    monkeypatch.setattr(matcher, "asymmetric", lambda objects, size: torch.ones(len(objects), dtype=torch.bool))


def test_angles_are_those_of_the_view_word():
    views = torch.arange(4000) % 4
    elevation, azimuth = view_angles(views, torch.Generator().manual_seed(0))
    assert torch.equal(view_index(elevation, azimuth), views)
    assert elevation.min() >= -10
    assert elevation.max() <= 75
    sides = azimuth[views == VIEWS.index("side view")]
    assert 0.4 < float((sides > 0).float().mean()) < 0.6


def test_labels_are_what_descriptions_say():
    objects = sample_upright(0, 200, CPU)
    found = describe(objects)
    assert [COLORS[color] for color in body_colors(objects)] == [each.color for each in found]
    assert [NOUNS[noun] for noun in objects.noun] == [each.noun for each in found]


def test_views_are_refreshed_in_turn_and_keep_their_labels(discs):
    objects = sample_upright(0, 8, CPU)
    views = LabelledViews(objects, 6, 16, seed=0)
    before = views.all()[0].clone()
    views.refresh(2)
    pixels, labels = views.all()
    changed = (pixels != before).flatten(1).any(1).tolist()
    assert changed == [True, True, False, False, False, False]
    assert torch.equal(labels.noun, objects.noun[views.shown])
    assert torch.equal(labels.color, body_colors(objects)[views.shown])


def test_spoilt_pictures_depend_on_the_generator_alone():
    views = torch.randint(0, 255, (5, 32, 32, 4), dtype=torch.uint8)
    first, again, other = (augment(views, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.abs().max() <= 1


def test_moving_mirrors_and_scales():
    layers = torch.rand(2, 4, 16, 16)
    still, mirror = torch.zeros(2, 2), torch.tensor([False, True])
    moved = matcher_views._move(layers, torch.ones(2), still, mirror)
    assert moved == pytest.approx(torch.stack([layers[0], layers[1].flip(-1)]), abs=1e-5)
    small = matcher_views._move(torch.ones(2, 4, 16, 16), torch.full((2,), 2.0), still, mirror)
    assert small.sum((2, 3)) == pytest.approx(torch.full((2, 4), 64.0), abs=4.0)  # Half the side, soft edges.


def test_blurring_keeps_plain_pictures_and_softens_edges():
    plain, edge = torch.full((1, 3, 64, 64), 0.3), torch.zeros(1, 3, 64, 64)
    edge[..., 32:] = 1.0
    assert matcher_views._blur(plain) == pytest.approx(plain, abs=1e-6)
    row = matcher_views._blur(edge)[0, 0, 32]
    assert 0.0 < row[31] < 0.5 < row[32] < 1.0


def test_rectangles_have_their_size():
    inside = matcher_views._rectangles(torch.tensor([[0.5, 0.25]]), torch.tensor([[0.125, 0.25]]), 64)
    assert int(inside.sum()) == 16 * 32
    assert bool(inside[0, 0, 32, 0])


def test_a_matcher_that_is_loaded_says_the_same(tmp_path):
    torch.manual_seed(0)
    matcher = Matcher((8, 8), 32)
    matcher(torch.rand(4, 3, 32, 32))  # Moves the statistics of the normalisations.
    matcher.save(tmp_path / "first")
    loaded = Matcher.load(tmp_path / "first")
    loaded.save(tmp_path / "second")
    pictures = torch.rand(3, 3, 48, 48) * 2 - 1
    found, again = loaded.judge(pictures), Matcher.load(tmp_path / "second").judge(pictures, chunk=2)
    for name in ("noun", "color", "view"):
        assert getattr(found, name).exp().sum(1) == pytest.approx(torch.ones(3), abs=1e-5)
        assert getattr(found, name) == pytest.approx(getattr(again, name), abs=1e-6)
        # Half precision has eleven bits.
        assert getattr(found, name) == pytest.approx(getattr(matcher.judge(pictures), name), abs=1e-2)


def test_a_matcher_of_fewer_nouns_keeps_their_numbers(tmp_path):
    Matcher((8, 8), 32, num_nouns=5).save(tmp_path)
    matcher = Matcher.load(tmp_path)
    assert matcher.counts[0] == 5
    assert int(matcher.labels(torch.rand(3, 3, 32, 32)).noun.max()) < 5


def test_a_matcher_of_other_words_is_refused(tmp_path):
    Matcher((8, 8), 32).save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "nouns": ["mug"]}))
    with pytest.raises(ValueError, match=r"Expected the matcher .* to know this version's nouns"):
        Matcher.load(tmp_path)


def test_a_damaged_matcher_is_refused(tmp_path):
    Matcher((8, 8), 32).save(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ValueError, match="to hold the matcher's weights"):
        Matcher.load(tmp_path)


@pytest.mark.nightly
def test_toy_training_learns_colours(tmp_path, discs):
    config = matcher.TrainConfig(
        out=tmp_path, seconds=600, batch_size=64, learning_rate=1e-2, num_objects=400, num_views=400, refresh_views=8,
        num_held_out=200, widths=(16, 32), size=16, max_steps=60,
    )  # fmt: skip
    assert matcher.train(config) == tmp_path
    assert Matcher.load(tmp_path).size == 16
    rows = [json.loads(line) for line in (tmp_path / "training.jsonl").read_text().splitlines()]
    assert rows[0]["step"] == 60
    found = json.loads((tmp_path / "accuracy.json").read_text())
    assert rows[-1]["held_out_color"] == found["color"]
    assert found["color"] > 0.6  # 0.88 when written; of twelve colours the most frequent is a fifth.
    assert found["spoilt_color"] > 0.45  # 0.73 when written.
