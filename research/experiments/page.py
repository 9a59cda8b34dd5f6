"""A study's page: what was measured stands between two marks, what is written by hand around them stays."""

from collections.abc import Sequence
from pathlib import Path

from hash3d.files import replacing
from hash3d.table.objects import Machine, all_of, provenance
from hash3d.table.runner import Rows
from hash3d.table.worker import SHOWN_AZIMUTHS
from research.measured import write_measured

from .contact_sheet import render_contact_sheet
from .job import StudyJob
from .passes import find_timing
from .plot import plot_points, points_of
from .study import Study
from .table import LEGEND, Costs, table


def write_page(
    path: Path, study: Study, jobs: Sequence[StudyJob], rows: Rows, machine: Machine, *, command: str
) -> None:
    """Write PATH.md, PATH.jpg and, if the study is plotted, PATH.png from the rows that the jobs have left.

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
        render_contact_sheet(jobs, machine, study.shown).save(temporary, quality=88)
    labels = list(dict.fromkeys(job.label for job in jobs))
    costs = Costs(timing=find_timing(rows, "cpu"))
    variants = "some variants" if study.shown else "each variant"
    azimuths = ", ".join(f"{azimuth:.0f}" for azimuth in SHOWN_AZIMUTHS)
    lines = [
        f"`{command}`: steps {all_of(found, 'steps')}; {provenance(found)}; {all_of(found, 'workers')} runs at a time "
        f"with {all_of(found, 'threads')} threads each. {len(found)} of {len(jobs)} runs.",
        "",
        f"![The input, true views if there are any, and {variants} from azimuths {azimuths} degrees]({path.name}.jpg)",
        "",
    ]
    if study.plotted:
        with replacing(path.with_name(f"{path.name}.png")) as temporary:
            plot_points(points_of(found, labels, costs), temporary)
        lines += [f"![Paired differences to {labels[0]} against reuse and against cost]({path.name}.png)", ""]
    lines += [*table(found, labels, costs), "", LEGEND.format(costs=costs)]
    write_measured(path, study.title, study.question, lines)
