"""The page of `estimators`: tables from its rows alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from hash3d.markdown import markdown_table

from .estimates import COSTS, ESTIMATORS, FORECAST, NEAREST
from .measured import mean_and_error, provenance, with_error, write_measured
from .states import AZIMUTHS, DEFAULT_AZIMUTH, LATER
from .worker import Row

Column = tuple[dict[str, int], int | None]
"""Where a cell's figures stand, and a timestep's number or None for the mean over all."""
TITLE = "Estimators of the deep feature"
QUESTION = "Which estimate of a query's deep feature keeps most of the score distillation residual, and at which cost?"
COSINE, ERROR, BIAS_ERROR = 0, 1, 3
"""Places of a row's figures; 2 is the cosine of the mean."""
LEGEND = (
    "Mean over the objects +- its standard error; a figure of an object is a mean over snapshots, views, noises and "
    "timesteps. Cosine and error: of the SDS residual (guided noise prediction minus the true noise) against the full "
    "pass's, error ||estimate - full|| / ||full||. Bias error: the same of the residual's mean over the noises. Cost: "
    "of both branches of a view, in full passes, with a shallow pass at its measured share {share:.2f} "
    "({shallow:.1f} of {full:.1f} ms). The forecast's entries are {first} and 100 diffusion steps later than the "
    "query and have one noise."
)


def write_page(page: Path, rows: Sequence[Row], pass_ms: dict[str, Any], command: str) -> None:
    """Write PAGE.md. `pass_ms`: milliseconds of a `full` pass, and of the `shallow` pass of each cut."""
    settings, cut = rows[0]["settings"], rows[0]["default_cut"]
    age = max(cell["age"] for cell in rows[0]["cells"])
    times = settings["timesteps"]
    shallow, full = pass_ms["shallow"][cut], pass_ms["full"]
    lines = [
        f"`{command}`: {provenance(rows)}. {len(rows)} objects, prior {settings['prior']}, runs planned for "
        f"{settings['steps']} steps, {settings['views']} views, {settings['noises']} noises, "
        f"t {', '.join(map(str, times))}, seed {settings['seed']}.",
        "",
        f"At cut {cut}; entries {age} steps old and {DEFAULT_AZIMUTH} degrees away:",
        "",
        *main_table(rows, cut, age, shallow / full),
        "",
        LEGEND.format(share=shallow / full, shallow=shallow, full=full, first=LATER[1]),
    ]
    here = {"cut": cut, "age": age, "azimuth": DEFAULT_AZIMUTH, "later": 0}
    columns: dict[str, dict[str, Column]] = {
        "timestep": {f"t {time}": (here, place) for place, time in enumerate(times)},
        "offset of the azimuth, in degrees": {f"{value}": ({**here, "azimuth": value}, None) for value in AZIMUTHS},
        "offset of the timestep": {f"{value}": ({**here, "later": value}, None) for value in LATER},
        "cut": {f"cut {value}": ({**here, "cut": value}, None) for value in settings["cuts"]},
    }
    for what, places in columns.items():
        lines += ["", f"By {what}, cosine / error / bias error:", "", *table_by(rows, places, ESTIMATORS)]
    ages: dict[str, Column] = {
        f"{value} degrees, age {years}": ({**here, "azimuth": value, "age": years}, None)
        for value in AZIMUTHS
        for years in (0, age)
    }
    lines += ["", "By age, in optimisation steps, cosine / error / bias error:", ""]
    lines += table_by(rows, ages, [NEAREST])
    write_measured(page, TITLE, QUESTION, lines)


def main_table(rows: Sequence[Row], cut: int, age: int, share: float) -> list[str]:
    """A line an estimator, with its standard errors and its cost."""
    lines = []
    for name in ESTIMATORS:
        values = figures(rows, name, {"cut": cut, "age": age, "azimuth": DEFAULT_AZIMUTH, "later": 0})
        if values is None:
            continue
        mean, error = mean_and_error(values.mean(1))
        full, shallow = COSTS.get(name, (0.0, 1.0))
        cells = [with_error(float(mean[place]), float(error[place])) for place in (COSINE, ERROR, BIAS_ERROR)]
        lines.append([name, *cells, f"{full + share * shallow:.2f}"])
    return markdown_table(["estimator", "cosine", "error", "bias error", "cost"], lines)


def table_by(rows: Sequence[Row], columns: Mapping[str, Column], estimators: Sequence[str]) -> list[str]:
    """A line an estimator; what has no figures is a dash."""
    lines = []
    for name in estimators:
        cells = []
        for place, time in columns.values():
            values = figures(rows, name, place)
            if values is None:
                cells.append("-")
                continue
            mean = (values.mean(1) if time is None else values[:, time]).mean(0)
            cells.append(" / ".join(f"{mean[figure]:.2f}" for figure in (COSINE, ERROR, BIAS_ERROR)))
        if set(cells) != {"-"}:
            lines.append([name, *cells])
    return markdown_table(["estimator", *columns], lines)


def figures(rows: Sequence[Row], name: str, place: dict[str, int]) -> Float[Tensor, "O T 4"] | None:
    """An estimator's figures at a place, by object and timestep. A forecast has one place, whatever its first entry."""
    if name == FORECAST:
        place = {**place, "later": LATER[1]}
    wanted = {"estimator": name, **place}
    found = [
        cell["figures"] for row in rows for cell in row["cells"] if all(cell[key] == wanted[key] for key in wanted)
    ]
    return torch.tensor(found) if found else None
