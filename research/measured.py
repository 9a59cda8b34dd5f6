"""Where a measurement is made, and the page that shows it."""

import argparse
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from hash3d.files import write_text

BEGIN, END = "<!-- measured -->", "<!-- /measured -->"


def commit() -> str:
    """Return the commit of the working copy that this code lies in, "unknown" outside one."""
    asked = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def write_measured(page: Path, title: str, question: str, lines: Sequence[str]) -> None:
    """Put lines between the marks of the page PAGE.md; one that is not there begins with the title and question."""
    path = page.with_name(f"{page.name}.md")
    before = path.read_text() if path.exists() else f"# {title}\n\n{question}\n\n{BEGIN}\n{END}\n"
    write_text(path, with_measured(before, "\n".join(lines)))


def with_measured(page: str, measured: str) -> str:
    """The page with another text between its marks."""
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise ValueError(f"Expected one {BEGIN} and one {END} in the page, but they are not there. Put them back.")
    return re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{measured}\n{END}", page, flags=re.DOTALL)


def parse_options(about: str | None, repeats: int, of: str) -> argparse.Namespace:
    """The options of a benchmark of U-Nets: how many repeats, `of` what, where, of which commit, onto which page."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=repeats, help=of)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="narrow models, for a CPU")
    parser.add_argument("--commit", default=commit())
    parser.add_argument("--write", type=Path, metavar="PAGE.md")
    return parser.parse_args()
