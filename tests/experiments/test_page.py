"""The page: made from rows, and kept where a hand wrote."""

import pytest

from hash3d.experiments.page import with_measured, write_page
from hash3d.experiments.runner import Rows


@pytest.fixture
def write(toy, jobs_of, machine, tmp_path):
    jobs = jobs_of(toy, variants=("no cache", "cache"), steps=1)

    def write():
        path = tmp_path / "docs" / "toy"
        write_page(path, toy, jobs, Rows(machine.runs), machine, command="do", shallow_cost=0.2)
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


def test_a_page_without_marks_is_not_written_over():
    with pytest.raises(ValueError, match="Put them back"):
        with_measured("# Mine\n", "numbers")
