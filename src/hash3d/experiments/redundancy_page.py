"""The page of `redundancy`: tables and a figure from its rows alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from hash3d.files import replacing
from hash3d.markdown import markdown_table

from .measured import mean_and_error, provenance, pyplot, with_error, write_measured
from .worker import Row

TITLE = "Redundancy"
QUESTION = (
    "How alike are the deep features of two guidance calls that differ by one thing, and how much of the score "
    "distillation residual survives if one stands in for the other?"
)
UNITS = {"elevation": "degrees", "azimuth": "degrees", "radius": "scene units", "timestep": "diffusion steps"}
SAME, FRESH = 0, 1
"""Places of the rows' second axis: the entry has the query's noise, or its own."""
FEATURE, ERROR, RESIDUAL = 0, 1, 2
"""Places of the rows' last axis."""
LEGEND = (
    "Mean over the objects +- its standard error. Each object has one query at each timestep; the figures are means "
    "over the timesteps. Feature: cosine similarity of the deep features, both guidance branches together. Error: of "
    "the guided noise prediction of the shallow pass, ||shallow - full|| / ||full||. Residual: cosine similarity of "
    "the SDS residual (guided noise prediction minus the true noise) of the shallow and of the full pass. A timestep "
    "is later than the query's, and as much earlier where no later one is left. Another object is seen from the same "
    "camera and has its own reference picture."
)


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a stored entry differs by, besides its noise."""

    field: str
    size: float = 0.0
    """Degrees, scene units, diffusion steps."""

    def __str__(self) -> str:
        if self.field == "noise":
            return "noise only (same camera, same t)"
        return "another object" if self.field == "object" else f"{self.field} {self.size:g}"


CHANGES = (
    Change(field="noise"),
    *(Change(field="timestep", size=size) for size in (20, 50, 100, 200)),
    *(Change(field="elevation", size=size) for size in (5, 10, 20, 30)),
    *(Change(field="azimuth", size=size) for size in (5, 10, 20, 40, 90, 180)),
    *(Change(field="radius", size=size) for size in (0.05, 0.1, 0.2)),
    Change(field="object"),
)


def write_page(page: Path, rows: Sequence[Row], command: str) -> None:
    """Write PAGE.md and PAGE.png."""
    by_cut = torch.tensor([row["by_cut"] for row in rows])  # [objects, cuts, noise, changes, figures]
    by_timestep = torch.tensor([row["by_timestep"] for row in rows])  # [objects, timesteps, noise, changes, figures]
    settings, cut = rows[0]["settings"], rows[0]["cut"]
    cuts = [f"cut {number}" for number in range(by_cut.shape[1])]
    times = [f"t {time}" for time in settings["timesteps"]]
    lines = [
        f"`{command}`: {provenance(rows)}. {len(rows)} objects, prior {settings['prior']}, guidance scale "
        f"{settings['guidance_scale']:g}, t {', '.join(map(str, settings['timesteps']))}, seed {settings['seed']}.",
        "",
        f"At cut {cut}, the paper's:",
        "",
        *default_table(by_cut[:, cut]),
        "",
        LEGEND,
        "",
        f"![Each figure over each kind of offset, a curve a cut]({page.name}.png)",
        "",
        "Columns: how far the entry lies from the query. Upper row: the features; middle: the residual; lower: the "
        "residual if the entry has the query's noise.",
    ]
    for what, values, heads in (("cut", by_cut, cuts), (f"timestep, at cut {cut}", by_timestep, times)):
        lines += ["", f"The residual's cosine by {what}, fresh noise / the query's noise:", ""]
        lines += split_table(values[..., RESIDUAL], heads)
    page.parent.mkdir(parents=True, exist_ok=True)
    with replacing(page.with_name(f"{page.name}.png")) as temporary:
        draw(by_cut, temporary)
    write_measured(page, TITLE, QUESTION, lines)


def default_table(values: Float[Tensor, "O 2 V 3"]) -> list[str]:
    """A line a change; the three figures with fresh noise, then with the query's."""
    mean, error = mean_and_error(values)
    heads = ["the stored entry differs by", "feature", "error", "residual"]
    heads += [f"{head}, same noise" for head in heads[1:]]
    places = [(noise, figure) for noise in (FRESH, SAME) for figure in (FEATURE, ERROR, RESIDUAL)]
    lines = [
        [
            str(change),
            *(
                with_error(float(mean[noise, row, figure]), float(error[noise, row, figure]))
                for noise, figure in places
            ),
        ]
        for row, change in enumerate(CHANGES)
    ]
    return markdown_table(heads, lines)


def split_table(values: Float[Tensor, "O M 2 V"], heads: Sequence[str]) -> list[str]:
    """A line a change, a column for each of M cuts or timesteps."""
    mean = values.mean(0)
    lines = [
        [str(change), *(f"{part[FRESH, row]:.2f} / {part[SAME, row]:.2f}" for part in mean)]
        for row, change in enumerate(CHANGES)
    ]
    return markdown_table(["the stored entry differs by", *heads], lines)


def draw(by_cut: Float[Tensor, "O K 2 V 3"], path: Path) -> None:
    """Small multiples: a column a field, a row a figure, a curve a cut."""
    plot = pyplot()
    mean = by_cut.mean(0)
    rows = (
        ("feature cosine", mean[:, FRESH, :, FEATURE]),
        ("residual cosine", mean[:, FRESH, :, RESIDUAL]),
        ("residual cosine,\nsame noise", mean[:, SAME, :, RESIDUAL]),
    )
    fields = (*UNITS, "object")
    figure, axes = plot.subplots(len(rows), len(fields), figsize=(13, 7), sharey="row", layout="constrained")
    colors = plot.get_cmap("viridis")(torch.linspace(0.0, 0.95, len(mean)).numpy())
    for line, (name, values) in zip(axes, rows, strict=True):
        line[0].set_ylabel(name)
        for axis, field in zip(line, fields, strict=True):
            places = [0, *(row for row, change in enumerate(CHANGES) if change.field == field)]
            for cut, color in enumerate(colors):
                axis.plot(range(len(places)), values[cut, places].numpy(), ".-", color=color, label=f"cut {cut}")
            sizes = ["same", "another"] if field == "object" else [f"{CHANGES[place].size:g}" for place in places]
            axis.set_xticks(range(len(places)), sizes)
            axis.grid(alpha=0.3)
    for axis, field in zip(axes[-1], fields, strict=True):
        axis.set_xlabel(f"{field} ({UNITS[field]})" if field in UNITS else field)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center")
    figure.savefig(path, dpi=90)
    plot.close(figure)
