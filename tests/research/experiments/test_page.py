"""The page: made from rows, and kept where a hand wrote."""

import pytest

from hash3d.table.runner import Rows
from research.experiments.contact_sheet import render_contact_sheet
from research.experiments.page import write_page
from research.measured import with_measured


@pytest.fixture
def write(toy, jobs_of, machine, tmp_path):
    jobs = jobs_of(toy, variants=("no cache", "cache"), steps=1)

    def write():
        path = tmp_path / "docs" / "toy"
        write_page(path, toy, jobs, Rows(machine.runs), machine, command="do")
        return path.with_suffix(".md")

    return jobs, write


def test_no_rows_no_page(write):
    with pytest.raises(ValueError, match="Expected rows of toy"):
        write[1]()


def test_hand_written_text_survives(write, run):
    jobs, make = write
    run(jobs)
    page = make()
    text = page.read_text()
    assert text.startswith("# A toy\n\nDoes it run?\n\n<!-- measured -->\n`do`: steps 1; device cpu")
    assert "| no cache | 2 |" in text
    edited = text.replace("Does it run?", "Mine \\1 above.").replace("| no cache", "| stale") + "\nMine below.\n"
    page.write_text(edited)
    make()
    assert page.read_text() == text.replace("Does it run?", "Mine \\1 above.") + "\nMine below.\n"


def test_the_picture_holds_the_variants_shown(toy, jobs_of, machine):
    """The input, two objects' true views, a strip of four views a variant."""
    jobs = jobs_of(toy)
    widths = [
        render_contact_sheet(jobs, machine, shown).width
        for shown in ((), ("cache", "no cache"), ("cache",), ("not chosen",))
    ]
    assert widths == [128 + 512 * (1 + count) for count in (3, 2, 1, 3)]


def test_a_page_without_marks_is_not_written_over():
    with pytest.raises(ValueError, match="Put them back"):
        with_measured("# Mine\n", "numbers")
