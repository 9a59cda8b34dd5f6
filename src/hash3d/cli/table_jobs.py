"""The runs of `hash3d table`, each as `hash3d generate` makes it."""

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any

from hash3d.cache import Hash3DConfig
from hash3d.recipes.recipe import Recipe
from hash3d.table.objects import InputObject, Job, find_objects, read_prompts

from .generate import build_recipe
from .options import find_system, parse
from .table import Table

WORDS: dict[str, tuple[str, ...]] = {
    "off": ("--no-cache", "--dwell", "1"),
    "paper": ("--preset", "paper"),
    "released": ("--preset", "released"),
    "default": (),
    "replay": (),
}
"""The options of `hash3d generate` that each setting is; all but replay have --replay-every 0. Where replay ends before
a run does, reuse follows."""
SMOKE_PROMPT = "a red mug"


parse_once = functools.cache(lambda *words: parse(list(words)))  # Those of all runs of a command are alike.


@dataclass(frozen=True, kw_only=True)
class TableJob(Job):
    """A run as `hash3d generate` makes it."""

    words: tuple[str, ...]
    """The command without its input and seed."""

    def recipe(self) -> Recipe:
        """What to run."""
        options, item = parse_once(*self.words), self.input
        inputs = find_system(options.system).inputs
        given: dict[str, Any] = {"seed": item.seed(self.seed)}
        if "image" in inputs:
            given |= {"image": item.image, **item.placed}
        if "prompt" in inputs:
            given["prompt"] = item.prompt
        if isinstance(options.cache, Hash3DConfig):
            given["cache"] = dataclasses.replace(options.cache, seed=given["seed"])
        return build_recipe(dataclasses.replace(options, **given))


def list_jobs(options: Table) -> list[TableJob]:
    """List the runs seed by seed, system by system and input by input, all settings of an input together."""
    images = find_objects(options.objects) if options.objects else []
    texts = read_prompts(options.prompts) if options.prompts else []
    if options.preset:
        images, texts = images[:1], texts[:1] or [InputObject(text=SMOKE_PROMPT)]
    jobs = [
        TableJob(study=name, label=reuse, words=write_words(name, reuse, options), input=item, seed=seed)
        for seed in options.seeds
        for name in options.systems
        for item in (images if "image" in find_system(name).inputs else texts)
        for reuse in options.cache
        if reuse != "replay" or find_system(name).replay_every
    ]
    if not jobs:
        raise ValueError("Expected --objects FOLDER or --prompts FILE for the systems, but got none of what they need.")
    return jobs


def write_words(name: str, reuse: str, options: Table) -> tuple[str, ...]:
    """Return the command of `hash3d generate` for a system and a setting, without its input and seed."""
    system, words = find_system(name), [name, *WORDS[reuse]]
    if system.replay_every:
        words += ["--replay-every", str(system.replay_every if reuse == "replay" else 0)]
    prior = options.prior if "image" in system.inputs else options.text_prior
    given = {"prior": prior, "scale": options.scale, "steps": options.steps}
    if "text_prior" in system.others:
        given["text-prior"] = options.text_prior
    if "start" in system.others and options.scale not in (None, "mini"):
        given["start"] = "random"
    for option, value in given.items():
        words += [] if value is None else [f"--{option}", str(value)]
    return tuple(words)
