"""Tables in Markdown."""

from research.markdown import markdown_table


def test_words_stand_on_the_left_and_numbers_on_the_right():
    assert markdown_table(["", "IoU"], [["copy", "0.5"]]) == ["|  | IoU |", "| --- | ---: |", "| copy | 0.5 |"]
    assert markdown_table("abc", [], words=2) == ["| a | b | c |", "| --- | --- | ---: |"]
