"""`hash3d systems`: the table."""

from hash3d.cli.systems import HEADS, row
from hash3d.systems import SYSTEMS


def test_systems_lists_nine(hash3d):
    code, out, _ = hash3d("systems")
    assert code == 0
    assert len(out.strip().splitlines()) == 10


def test_a_row_says_what_a_system_starts_from_and_makes():
    magic123 = dict(zip(HEADS, row(next(each for each in SYSTEMS if each.name == "magic123")), strict=True))
    assert (magic123["system"], magic123["from"]) == ("magic123", "picture and text")
    assert magic123["makes"] == "hash-grid NeRF, DMTet mesh"
