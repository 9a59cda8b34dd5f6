"""Measure how well samples of `mini-sd` show the captions of held-out objects.

    python -m prior_training.evaluate_text --prior FOLDER --matcher FOLDER --out FOLDER

The judge is the matcher, and its own errors are measured too, on true renders of the same captions. Writes
`evaluation.json`, its tables as `evaluation.md`, and contact sheets.
"""

import json
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hash3d.diffusion.stable_diffusion import StableDiffusionPrior
from hash3d.files import write_text
from hash3d.guidance.stable_diffusion import FRONT, VIEWS, view_prompt

from .autoencoder import to_images
from .contact_sheets import captioned_contact_sheet
from .evaluate_views import asymmetric
from .matcher_network import Labels, Matcher
from .matcher_views import body_colors, sample_upright, view_angles
from .sampling import sample_pictures
from .text_buffer import background_prompt
from .text_nearest import TrainingViews, nearest
from .text_scores import chance, sample_candidates, score_captions
from .text_tables import markdown
from .view_buffer import orbit
from .world import render
from .world.captions import caption, describe
from .world.catalogue import HELD_OUT

logger = logging.getLogger(__name__)

FIRST_CAPTION = HELD_OUT + 1_000_000
"""Objects from here on give the captions; neither a prior nor the matcher is trained or measured on them."""
PROMPTS = (
    "a red mug with a blue handle",
    "a yellow teddy bear",
    "a green car",
    "a blue teapot",
    "a pink house",
    "a brown dog",
    "a purple chair",
    "a white rocket",
    "a grey robot",
    "a black camera",
    "a green cactus",
    "an orange fish",
    "a grey elephant",
    "a red bicycle",
    "a brown guitar",
    "two red apples",
    "a black cat on a white chair",
)
"""Prompts of the contact sheets; written by hand."""
BACKGROUNDS = ("red", "orange", "yellow", "green", "blue", "purple", "grey", "black")
"""Backgrounds of the second contact sheet."""


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What is measured."""

    prior: Path
    """Folder of the prior."""
    matcher: Path
    """Folder of the matcher."""
    out: Path
    """Folder for the scores and the contact sheets."""
    num_captions: int = 1000
    """Captions of held-out objects, a quarter with each view word."""
    num_candidates: int = 32
    """Captions to choose from in retrieval, the right one included."""
    guidance_scales: tuple[float, ...] = (3.0, 5.0, 7.5)
    """Each is measured; the contact sheets show the middle one."""
    num_steps: int = 40
    """DDIM steps."""
    num_training_views: int = 100_000
    """Training renders among which the nearest are sought."""
    num_neighbours: int = 12
    """Pictures whose nearest training renders are shown."""
    batch_size: int = 250
    """Pictures sampled at a time."""
    seed: int = 0
    """Of captions, cameras, candidates and noise."""

    @property
    def shown_scale(self) -> float:
        """The guidance scale of the contact sheets and of the search for neighbours."""
        return self.guidance_scales[len(self.guidance_scales) // 2]


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """B captions with a view word, what they say, and the true renders of their objects at such views."""

    prompts: list[str]
    truth: Labels
    asymmetric: Bool[Tensor, " B"]
    renders: Float[Tensor, "B 3 S S"]


def render_held_out(count: int, size: int, device: torch.device, seed: int) -> HeldOut:
    """Captions of `count` objects, each with the next of the view words."""
    objects = sample_upright(FIRST_CAPTION, count, device)
    views = torch.arange(count) % len(VIEWS)
    elevation, azimuth = view_angles(views, torch.Generator().manual_seed(seed))
    cameras = orbit(elevation, azimuth, size)
    parts = [slice(start, start + 500) for start in range(0, count, 500)]
    wordings = random.Random(seed)
    captions = [caption(description, wordings, full=True) for description in describe(objects)]
    return HeldOut(
        prompts=[view_prompt(text, view) for text, view in zip(captions, views.tolist(), strict=True)],
        truth=Labels(noun=objects.noun.long(), color=body_colors(objects).long(), view=views.to(device)),
        asymmetric=torch.cat([asymmetric(objects[part], size) for part in parts]).to(device),
        renders=torch.cat([to_images(render(objects[part], cameras[part])) for part in parts]),
    )


class Evaluation:
    """One evaluation; `run` does it all."""

    def __init__(self, config: EvaluateConfig) -> None:
        self.config = config
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.prior = StableDiffusionPrior.load(config.prior, device=self.device)
        self.matcher = Matcher.load(config.matcher, self.device)
        config.out.mkdir(parents=True, exist_ok=True)

    def run(self) -> dict[str, Any]:
        """Writes the scores and the contact sheets; returns the scores."""
        config = self.config
        held_out = render_held_out(config.num_captions, self.prior.image_size, self.device, config.seed)
        scores, samples = self.score(held_out)
        found = {
            "prior": config.prior.name,
            "captions": config.num_captions,
            "candidates": config.num_candidates,
            "asymmetric": int(held_out.asymmetric.sum()),
            "steps": config.num_steps,
            "seed": config.seed,
            "scores": scores,
            "nearest": self.neighbours(held_out, samples),
        }
        write_text(config.out / "evaluation.json", json.dumps(found, indent=1) + "\n")
        write_text(config.out / "evaluation.md", markdown(found))
        logger.info("%s", markdown(found))
        self.draw_sheets(held_out, samples)
        return found

    def sample(self, prompts: Sequence[str], scale: float, seed: int = 0) -> Float[Tensor, "B 3 S S"]:
        """The prior's pictures, `batch_size` at a time."""
        size = self.config.batch_size
        parts = [list(prompts[start : start + size]) for start in range(0, len(prompts), size)]
        pictures = [
            sample_pictures(
                self.prior,
                part,
                guidance_scale=scale,
                num_steps=self.config.num_steps,
                seed=self.config.seed + 1000 * seed + number,
            )
            for number, part in enumerate(parts)
        ]
        return torch.cat(pictures).float()

    def score(self, held_out: HeldOut) -> tuple[list[dict[str, Any]], Float[Tensor, "B 3 S S"]]:
        """Scores of chance, of true renders and of the prior at each guidance scale; samples at the shown scale."""
        config, truth = self.config, held_out.truth
        generator = torch.Generator().manual_seed(config.seed)
        candidates = sample_candidates(len(truth), config.num_candidates, generator).to(self.device)
        rows: list[dict[str, Any]] = [{"pictures": "chance", **chance(truth, held_out.asymmetric, candidates)}]

        def add(name: str, pictures: Tensor) -> None:
            found = self.matcher.judge(pictures)
            rows.append({"pictures": name, **score_captions(found, truth, held_out.asymmetric, candidates)})
            logger.info("%s", rows[-1])

        add("true renders", held_out.renders)
        with torch.no_grad():
            decoded = [self.prior.decode(self.prior.encode(part)) for part in held_out.renders.split(config.batch_size)]
        add("true renders, encoded and decoded", torch.cat(decoded).float().clamp(-1, 1))
        shown = held_out.renders
        for scale in config.guidance_scales:
            pictures = self.sample(held_out.prompts, scale)
            add(f"guidance {scale:g}", pictures)
            shown = pictures if scale == config.shown_scale else shown
        return rows, shown

    def neighbours(self, held_out: HeldOut, samples: Float[Tensor, "B 3 S S"]) -> dict[str, Any]:
        """How near samples and held-out renders come to training renders, and a contact sheet of the nearest three."""
        config, count = self.config, self.config.num_neighbours
        views = TrainingViews(
            num_views=config.num_training_views, size=self.prior.image_size, device=self.device, seed=config.seed
        )
        both = torch.cat([samples, held_out.renders])
        distances, numbers = nearest(both, views.in_parts(2048), 3)
        first = torch.stack([samples[:count], *(views.render(each) for each in numbers[:count].unbind(1))], dim=1)
        texts = [
            [prompt, *(f"distance {distance:.3f}" for distance in row)]
            for prompt, row in zip(held_out.prompts[:count], distances[:count].tolist(), strict=True)
        ]
        captioned_contact_sheet(first, texts).save(config.out / "nearest.png")
        of_samples, of_renders = distances[:, 0].chunk(2)
        return {
            "training_views": config.num_training_views,
            "samples_mean": float(of_samples.mean()),
            "samples_least": float(of_samples.min()),
            "held_out_renders_mean": float(of_renders.mean()),
            "held_out_renders_least": float(of_renders.min()),
        }

    def draw_sheets(self, held_out: HeldOut, samples: Float[Tensor, "B 3 S S"]) -> None:
        """Prompts by view word with two seeds, prompts on backgrounds, and held-out captions."""
        views = [[view_prompt(prompt, view) for view in range(len(VIEWS))] for prompt in PROMPTS]
        rounds = [self._grid(views, seed) for seed in (1, 2)]
        self._save("views", torch.cat(rounds, dim=1), [row + row for row in views])
        backgrounds = [
            [background_prompt(view_prompt(prompt, FRONT), color) for color in BACKGROUNDS] for prompt in PROMPTS
        ]
        self._save("backgrounds", self._grid(backgrounds, seed=3), backgrounds)
        columns = 8
        rows = min(64, len(samples)) // columns
        texts = [held_out.prompts[row * columns : (row + 1) * columns] for row in range(rows)]
        self._save("held_out", samples[: rows * columns].unflatten(0, (rows, columns)), texts)

    def _grid(self, prompts: list[list[str]], seed: int) -> Float[Tensor, "R C 3 S S"]:
        """Pictures of a table of prompts."""
        pictures = self.sample([prompt for row in prompts for prompt in row], self.config.shown_scale, seed)
        return pictures.unflatten(0, (len(prompts), len(prompts[0])))

    def _save(self, name: str, pictures: Float[Tensor, "R C 3 S S"], captions: list[list[str]]) -> None:
        """Save a contact sheet, and its captions as text."""
        captioned_contact_sheet(pictures, captions).save(self.config.out / f"{name}.png")
        write_text(self.config.out / f"{name}.txt", "\n".join(" | ".join(row) for row in captions) + "\n")


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    import tyro

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    Evaluation(tyro.cli(EvaluateConfig, args=arguments, description=__doc__)).run()


if __name__ == "__main__":
    main()
