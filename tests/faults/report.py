"""Run the whole campaign of faults, and write its counts into docs/reliability.md: `python -m tests.faults.report`."""

import ast
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- counts -->\n", "<!-- end of counts -->\n"


class Counts:
    """A pytest plugin: by the first line of each nightly test's docstring, how much was tried and survived."""

    def __init__(self):
        self.tried, self.survived = Counter(), Counter()

    def pytest_runtest_logreport(self, report):
        if report.when != "call" or "nightly" not in report.keywords:
            return
        title = title_of(*report.nodeid.split("[")[0].split("::")[:2])
        count = max([value for name, value in report.user_properties if name == "tried"], default=1)
        self.tried[title] += count
        self.survived[title] += count - report.failed

    def table(self):
        rows = [f"| {title} | {count:,} | {self.survived[title]:,} |\n" for title, count in sorted(self.tried.items())]
        return "| trial | tried | survived |\n| --- | ---: | ---: |\n" + "".join(rows)


def title_of(file, name):
    """The first line of a test's docstring without its stop, or the test's name in words."""
    tree = ast.parse((ROOT / file).read_text())
    (function,) = (each for each in tree.body if isinstance(each, ast.FunctionDef) and each.name == name)
    text = ast.get_docstring(function) or name.removeprefix("test_").replace("_", " ")
    return text.splitlines()[0].rstrip(".")


def main():
    counts = Counts()
    status = pytest.main([str(ROOT / "tests/faults"), "-m", "nightly", "-q"], plugins=[counts])
    page = PAGE.read_text()
    head, tail = page.split(BEGIN)[0], page.split(END)[1]
    PAGE.write_text(head + BEGIN + counts.table() + END + tail)
    return status


if __name__ == "__main__":
    sys.exit(main())
