"""`python -m tests.faults.report [FILE ...]` runs long campaigns and writes their counts to docs/reliability.md."""

import ast
import datetime
import sys
from collections import Counter
from pathlib import Path

import pytest

from hash3d.table.objects import name_hardware
from research.measured import commit

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- counts -->\n", "<!-- end of counts -->\n"
HEAD = "| trial | tried | survived | how |\n| --- | ---: | ---: | --- |\n"


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

    def rows(self, how):
        return {
            title: f"| {title} | {count:,} | {self.survived[title]:,} | {how} |" for title, count in self.tried.items()
        }


def title_of(file, name):
    """The first line of a test's docstring without its stop, or the test's name in words."""
    tree = ast.parse((ROOT / file).read_text())
    (function,) = (each for each in tree.body if isinstance(each, ast.FunctionDef) and each.name == name)
    text = ast.get_docstring(function) or name.removeprefix("test_").replace("_", " ")
    return text.splitlines()[0].rstrip(".")


def update(page, rows):
    """The page with these rows in place of those of the same trials."""
    head, rest = page.split(BEGIN)
    old, tail = rest.split(END)
    before = {line.split(" | ")[0].removeprefix("| "): line for line in old.splitlines()[2:]}
    table = "".join(f"{row}\n" for _, row in sorted({**before, **rows}.items()))
    return head + BEGIN + HEAD + table + END + tail


def main(files):
    how = f"{commit()}, {datetime.date.today()}, {name_hardware('cpu')}"
    counts = Counts()
    paths = [str(ROOT / "tests/faults" / file) for file in files or ["."]]
    status = pytest.main([*paths, "-m", "nightly", "-q", "-p", "no:cacheprovider"], plugins=[counts])
    PAGE.write_text(update(PAGE.read_text(), counts.rows(how)))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
