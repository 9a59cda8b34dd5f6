"""How alike are deep features, and what is that worth? `python -m hash3d.experiments.redundancy --out FOLDER`.

Held-out objects of the procedural world, seen truly. A stored entry differs from the query by one thing; its feature
stands in for the query's, at every cut of the prior's U-Net.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro
from jaxtyping import Float, Int
from torch import Tensor

from hash3d.cache import PAPER
from hash3d.cameras import Cameras
from hash3d.diffusion.pose import pose_numbers
from hash3d.diffusion.zero123 import ImageCondition
from hash3d.guidance.zero123 import Zero123GuidanceConfig
from hash3d.priors.autoencoder import to_images
from hash3d.priors.pool import CONDITION_ELEVATION, FOV_Y, RADIUS
from hash3d.priors.world import draw_objects, render
from hash3d.priors.world.catalogue import HELD_OUT
from hash3d.training.guide import load_zero123

from .command import leave
from .measured import describe_machine, require_device
from .redundancy_page import CHANGES, write_page
from .residuals import NoisyViews, Passes, by_view, cosine, relative_error
from .runner import Rows
from .worker import Row

FIRST_OBJECT, FIRST_OTHER = HELD_OUT + 3_000_000, HELD_OUT + 3_100_000
BASE_ELEVATION = (-20.0, 45.0)
"""Of the query, in degrees: 30 above lies still within the elevations of the priors' training."""
DIGITS = 5


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure how alike features are, and write the page."""

    out: Path
    """Folder of redundancy.jsonl, a line an object. What has a line there is not measured again."""
    page: Path = Path("docs/experiments/redundancy")
    """The page without its ending; its .md and .png are written."""
    objects: int = 20
    """Held-out objects."""
    prior: str = "mini-zero123"
    """A folder, or an embedded prior's name."""
    timesteps: tuple[int, ...] = (100, 300, 500, 700, 900)
    """Of the queries."""
    guidance_scale: float = Zero123GuidanceConfig.guidance_scale
    """Of classifier-free guidance."""
    seed: int = 0
    """Of the views and the noise."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where to run."""
    hardware: str | None = None
    """For the page; by default what the machine says."""
    commit: str = "unknown"
    """For the page."""

    def settings(self) -> Row:
        """What makes two lines of an object the same measurement."""
        return {
            "prior": Path(self.prior).name,
            "timesteps": list(self.timesteps),
            "guidance_scale": self.guidance_scale,
            "seed": self.seed,
            "changes": [str(change) for change in CHANGES],
        }


@dataclass(frozen=True, kw_only=True)
class Views:
    """V views with the condition and pose of each; the first is the query's, the others differ as in `CHANGES`."""

    latents: Float[Tensor, "V 4 h w"]
    condition: ImageCondition
    pose: Float[Tensor, "V 4"]

    def noisy(self, passes: Passes, rows: Tensor, noise: Tensor, timesteps: Tensor) -> NoisyViews:
        """The views `rows` with noise."""
        place = rows.to(self.latents.device)
        condition = ImageCondition(
            embeddings=self.condition.embeddings[place], latents=self.condition.latents[place]
        )  # fmt: skip
        return passes.noisy_views(self.latents[place], noise, timesteps, condition, self.pose[rows])


def shifts(field: str) -> Float[Tensor, " V"]:
    """By how much each change moves a field."""
    return torch.tensor([change.size if change.field == field else 0.0 for change in CHANGES])


def stored_timesteps(timesteps: tuple[int, ...], num_timesteps: int) -> Int[Tensor, "T V"]:
    """The timestep of each stored entry: later than the query's, or as much earlier where there is no later one."""
    queries, later = torch.tensor(timesteps)[:, None], shifts("timestep").long()[None]
    return torch.where(queries + later < num_timesteps, queries + later, queries - later)


@torch.no_grad()
def draw_views(passes: Passes, number: int, generator: torch.Generator) -> Views:
    """True views of a held-out object, and one of another object with its own reference picture."""
    prior = passes.prior
    below, above, turn = torch.rand(3, generator=generator).tolist()
    reference_elevation = CONDITION_ELEVATION[0] + (CONDITION_ELEVATION[1] - CONDITION_ELEVATION[0]) * below
    things = draw_objects(torch.tensor([FIRST_OBJECT + number, FIRST_OTHER + number], device=prior.device))
    owner = torch.tensor([int(change.field == "object") for change in CHANGES])
    base = BASE_ELEVATION[0] + (BASE_ELEVATION[1] - BASE_ELEVATION[0]) * above
    elevation, azimuth = base + shifts("elevation"), 360.0 * turn + shifts("azimuth")
    radius = RADIUS + shifts("radius")
    # The last two are the reference views of both objects, at azimuth 0.
    cameras = Cameras(
        elevation=torch.cat([elevation, torch.full((2,), reference_elevation)]),
        azimuth=torch.cat([azimuth, torch.zeros(2)]),
        radius=torch.cat([radius, torch.full((2,), RADIUS)]),
        fov_y=torch.full((len(CHANGES) + 2,), FOV_Y),
        width=prior.image_size,
        height=prior.image_size,
    )
    rows = torch.cat([owner, torch.arange(2)]).to(prior.device)
    images = to_images(render(things[rows], cameras)).to(prior.device)
    references = prior.condition(images[-2:])
    mine = owner.to(prior.device)
    pose = pose_numbers(
        elevation=elevation,
        relative_azimuth=azimuth,
        relative_radius=radius - RADIUS,
        reference_elevation=reference_elevation,
        variant=prior.pose_variant,
    )
    condition = ImageCondition(embeddings=references.embeddings[mine], latents=references.latents[mine])
    return Views(latents=prior.encode(images[:-2]), condition=condition, pose=pose)


def compare(
    passes: Passes, views: Views, timesteps: tuple[int, ...], generator: torch.Generator
) -> Float[Tensor, "K 2 T V 3"]:
    """For K cuts, the query's noise or fresh noise, T timesteps and V changes: the three figures of a reuse.

    They are the cosine of the features (both branches together), the relative error of the guided noise prediction,
    and the cosine of the SDS residual. The query is the entry that nothing differs of: view 0 with its own noise.
    """
    count, times = len(CHANGES), len(timesteps)
    shape = views.latents.shape[1:]
    own = torch.randn(times, 1, *shape, generator=generator).expand(-1, count, *shape)
    noise = torch.stack([own, torch.randn(times, count, *shape, generator=generator)]).flatten(0, 2)
    stored = stored_timesteps(timesteps, passes.prior.schedule.num_timesteps).expand(2, -1, -1).flatten()
    view_rows = torch.arange(count).expand(2, times, -1).flatten()
    query_rows = (torch.arange(times) * count)[None, :, None].expand(2, -1, count).flatten()
    full = passes.full(views.noisy(passes, view_rows, noise, stored))
    query = views.noisy(passes, view_rows[query_rows], noise[query_rows], stored[query_rows])
    place = query_rows.to(views.latents.device)
    true = by_view(full.prediction)[place].transpose(0, 1).flatten(0, 1)
    figures = []
    for cut, joint in full.joints.items():
        features = by_view(joint.feature)
        predicted, wanted = (
            passes.predicted_noise(query, prediction)
            for prediction in (passes.shallow(query, cut, joint.feature), true)
        )
        figures += [
            cosine(features, features[place]),
            relative_error(predicted, wanted),
            cosine(predicted - query.noise, wanted - query.noise),
        ]
    return torch.stack(figures).unflatten(0, (-1, 3)).unflatten(2, (2, times, count)).movedim(1, -1).cpu()


def measure(passes: Passes, number: int, options: Options) -> Row:
    """The figures of one object: by cut (means over the timesteps), and by timestep at the paper's cut."""
    generator = torch.Generator().manual_seed(1_000_003 * options.seed + number)
    figures = compare(passes, draw_views(passes, number, generator), options.timesteps, generator).double()
    cut = PAPER.cut % len(passes.partials)
    return {
        "object": number,
        "settings": options.settings(),
        "cut": cut,
        "by_cut": figures.mean(2).round(decimals=DIGITS).tolist(),
        "by_timestep": figures[cut].transpose(0, 1).round(decimals=DIGITS).tolist(),
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure the objects that have no line yet, then write the page."""
    options = tyro.cli(Options, prog="python -m hash3d.experiments.redundancy", args=arguments)
    rows, settings = Rows(options.out, "redundancy"), options.settings()
    machine = describe_machine(options.out, options.device, hardware=options.hardware, commit=options.commit)

    def found() -> dict[int, Row]:
        return {row["object"]: row for row in rows.read() if row["settings"] == settings}

    done = found()
    missing = [number for number in range(options.objects) if number not in done]
    if missing:
        require_device(options.device)
        prior = load_zero123(options.prior, torch.device(options.device))
        passes = Passes(prior, options.guidance_scale)
        for number in missing:
            rows.append({**measure(passes, number, options), **machine.account()})
    measured = found()
    command = f"python -m hash3d.experiments.redundancy --objects {options.objects} --device {options.device}"
    write_page(options.page, [measured[number] for number in range(options.objects)], command)
    return 0


if __name__ == "__main__":
    leave(main, "redundancy")
