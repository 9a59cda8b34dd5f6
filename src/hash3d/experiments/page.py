"""A study's page: what was measured stands between two marks, what is written by hand around them stays."""

import re
from collections.abc import Sequence
from pathlib import Path

from hash3d.files import replacing, write_text

from .job import Job
from .runner import Rows
from .sheet import sheet
from .study import Study
from .table import LEGEND, Costs, table
from .worker import SHOWN_AZIMUTHS, Machine, Row

BEGIN, END = "<!-- measured -->", "<!-- /measured -->"


def write_page(
    path: Path, study: Study, jobs: Sequence[Job], rows: Rows, machine: Machine, *, command: str, shallow_cost: float
) -> None:
    """Write PATH.md and PATH.jpg from the rows that the jobs have left.

    Raises:
        ValueError: there are no rows, or the page that is there has no marks.
    """
    found = rows.of(jobs)
    if not found:
        raise ValueError(
            f"Expected rows of {study.name} in {rows.path}, but there are none of these recipes. Run it first."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path.with_name(f"{path.name}.jpg")) as temporary:
        sheet(jobs, machine).save(temporary, quality=88)
    labels = list(dict.fromkeys(job.label for job in jobs))
    costs = Costs(shallow=shallow_cost, pass_ms=rows.pass_milliseconds("cpu"))
    lines = [
        f"`{command}`: {_provenance(found)}. {len(found)} of {len(jobs)} runs.",
        "",
        f"![The input, true views if there are any, and each variant from azimuths "
        f"{', '.join(f'{azimuth:.0f}' for azimuth in SHOWN_AZIMUTHS)} degrees]({path.name}.jpg)",
        "",
        *table(found, labels, costs),
        "",
        LEGEND.format(shallow_cost=_told(costs)),
    ]
    page = path.with_name(f"{path.name}.md")
    before = page.read_text() if page.exists() else f"# {study.title}\n\n{study.question}\n\n{BEGIN}\n{END}\n"
    write_text(page, with_measured(before, "\n".join(lines)))


def with_measured(page: str, measured: str) -> str:
    """The page with another text between its marks."""
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise ValueError(f"Expected one {BEGIN} and one {END} in the page, but they are not there. Put them back.")
    return re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{measured}\n{END}", page, flags=re.DOTALL)


def _provenance(rows: Sequence[Row]) -> str:
    """Where, from what and when the rows were made."""

    def all_of(name: str) -> str:
        return ", ".join(sorted({str(row[name]) for row in rows}))

    steps = f"steps {all_of('steps')}"
    load = f"{all_of('workers')} runs at a time with {all_of('threads')} threads each"
    return (
        f"{steps}; device {all_of('device')}, {all_of('hardware')}, {load}; commit {all_of('commit')}; {all_of('date')}"
    )


def _told(costs: Costs) -> str:
    """What the legend says of a shallow pass's cost."""
    if costs.pass_ms is None:
        return f"{costs.shallow:g}"
    shallow = ", ".join(f"{milliseconds:.1f}" for milliseconds in costs.pass_ms["shallow"])
    return f"its share on 2 CPU cores ({shallow} ms from the first cut to the last, of {costs.pass_ms['full']:.1f} ms)"
