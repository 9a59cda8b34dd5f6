"""What is written between a page's marks."""

import pytest

from research.measured import BEGIN, END, with_measured, write_measured


def test_only_what_lies_between_the_marks_is_replaced():
    page = f"# Title\n\n{BEGIN}\nold\n{END}\n\nMine.\n"
    assert with_measured(page, r"new \1") == f"# Title\n\n{BEGIN}\nnew \\1\n{END}\n\nMine.\n"
    with pytest.raises(ValueError, match=r"Expected one .* in the page"):
        with_measured("# Title\n", "new")


def test_a_new_page_begins_with_title_and_question(tmp_path):
    for lines in (["old"], ["new", "lines"]):
        write_measured(tmp_path / "page", "Title", "Why?", lines)
    assert (tmp_path / "page.md").read_text() == f"# Title\n\nWhy?\n\n{BEGIN}\nnew\nlines\n{END}\n"
