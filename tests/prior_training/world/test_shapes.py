"""The language of parts, and the tables written in it."""

import pytest
import torch

from prior_training.world.assembly import Assembly
from prior_training.world.objects import COLUMN, ELLIPSOID, LATHE, NONE, PARTS, SUBTRACT
from prior_training.world.shapes import PAINTS, VARY, _copies, compose, read
from prior_training.world.streams import RandomStreams
from prior_training.world.words import COLORS, ROLES, TABLES, color_names

TEXTS = {name: text for table in TABLES for name, text in table.items()}


def made(text, count=40):
    rng = RandomStreams(torch.arange(count), seed=0)
    shape = Assembly(count, rng.device, torch.zeros(count, dtype=torch.long))
    compose(text)(rng, shape)
    return shape.objects(torch.zeros(count, 4), torch.zeros(count, 12))


def test_a_text_is_read():
    body, hole = read("can body:wood*brown/red .5,1,.5 @0,-.2~.3,1 x30 z-10 m s.1 | -ball :black .2 ?.3")
    assert (body.kind, body.role, body.paint, body.size, body.centre) == (
        "can", "body", "wood*brown/red", (".5", "1", ".5"), ("0", "-.2~.3", "1"),
    )  # fmt: skip
    assert body.turns == ((0, "30"), (2, "-10"))
    assert body.options == {"m": "", "s": ".1"}
    assert (hole.operation, hole.size, hole.options) == (SUBTRACT, (".2",) * 3, {"?": ".3"})


@pytest.mark.parametrize("text", ["cup body:red 1", "ball body:red 1 @0,0", "ball body:red 1,2", "ball body:red 1 k3"])
def test_what_is_not_of_the_language_is_refused(text):
    with pytest.raises(ValueError, match="Expected"):
        read(text)


def test_copies_lie_where_they_are_told():
    four = made("box body:red .1 @.4,.2,.3 q")
    assert (four.kind[:, :4] == COLUMN).all()
    assert {tuple(row) for row in four.centre[0, :4].sign().tolist()} == {(x, 1, z) for x in (1, -1) for z in (1, -1)}
    row = made("ball body:red .1 @0,.1,0 l3,.2,0,0").centre[:, :3]
    assert row[:, 1, 0] - row[:, 0, 0] == pytest.approx(row[:, 2, 0] - row[:, 1, 0], abs=1e-6)
    circle = made("ball body:red .1 @.5,0,0 o5").centre[:, :5]
    assert circle.sum(1).abs().max() < 0.08  # The stretch of up to 12 % along x and z makes an oval of the circle.


def test_a_mirrored_part_is_its_own_reflection():
    pair = made("ball body:red .1,.4,.2 @.4,.2,.3 x20 y30 z40 m")
    flip = torch.diag(torch.tensor([-1.0, 1.0, 1.0]))
    assert pair.rotation[:, 1] == pytest.approx(flip @ pair.rotation[:, 0] @ flip, abs=1e-5)
    assert pair.centre[:, 1] == pytest.approx(pair.centre[:, 0] @ flip, abs=1e-6)


def test_a_hollow_is_as_large_as_its_body_and_colours_follow_it():
    cup = made("can body:red .5,.6,.5 | -can inside:= .45,.6,.45 @0,.1,0 | ball :^ .2 ?a | ball :blue .3 !a")
    wall = (cup.size + cup.rounding[..., None])[:, :2, 0]
    assert wall[:, 1] / wall[:, 0] == pytest.approx(torch.full((40,), 0.9), abs=1e-4)
    assert torch.equal(cup.colors[:, 0, 0], cup.colors[:, 1, 0])
    assert (color_names(cup.colors[:, 0, 0]) == COLORS.index("red")).float().mean() > 0.7
    present = cup.kind[:, 2:4] == ELLIPSOID
    assert (present.sum(1) == 1).all()
    assert 8 < int(present[:, 0].sum()) < 32
    radius = cup.size[:, 3, 0][present[:, 1]]
    assert radius.min() > 0.3 * (1 - VARY) * 0.85
    assert (cup.kind[:, 4:] == NONE).all()


@pytest.mark.parametrize("table", TABLES)
def test_the_tables_are_of_the_language(table):
    for name, text in table.items():
        pieces = read(text)
        assert sum(len(_copies(piece)) for piece in pieces) <= PARTS, name
        assert any(piece.role == "body" for piece in pieces), name
        for piece in pieces:
            pattern, _, colors = piece.paint.rpartition("*")
            assert piece.role in ROLES, (name, piece.role)
            assert pattern in ("", "face", "belly", *PAINTS), (name, pattern)
            assert {*colors.split("/")} <= {*COLORS, *"_=~^"}, (name, colors)
            assert piece.kind != "lathe" or len(piece.options["p"]) == 6, name


def test_a_lathe_takes_its_digits_in_ninths():
    vase = made("lathe body:red .5,1,.5 p369630")
    assert (vase.kind[:, 0] == LATHE).all()
    assert vase.profile[0, 0] == pytest.approx(torch.tensor([3, 6, 9, 6, 3, 0]) / 9)
