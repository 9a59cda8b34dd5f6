"""What `guidance.py` and `scaling.py` share: full-size models of random weights, their inputs, and the page."""

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from hash3d.bench.summary import Spread, spread
from hash3d.cli.host import limit_threads, require_device
from hash3d.diffusion.random_weights import UNETS, ZERO123, write_random_prior
from hash3d.diffusion.stable_diffusion import StableDiffusionPrior
from hash3d.diffusion.zero123 import Zero123Prior
from hash3d.fast.engine import records
from hash3d.files import write_text
from hash3d.table.objects import describe_machine
from hash3d.training.guide import load_stable_diffusion, load_zero123
from hash3d.training.run import versions
from research.measured import commit, write_measured
from research.timing import seconds_of

from .command import command_line

Prior = Zero123Prior | StableDiffusionPrior
PROMPT = "a red mug"


def add_options(parser: argparse.ArgumentParser, *, repeats: int, priors: Sequence[str]) -> None:
    """The options that both scripts have."""
    parser.add_argument("--priors", nargs="+", choices=list(UNETS), default=list(priors), metavar="NAME")
    parser.add_argument("--engines", nargs="+", choices=("eager", "graph", "compile"), metavar="NAME")
    parser.add_argument("--repeats", type=int, default=repeats, help="measured calls of each kind")
    parser.add_argument("--tiny", action="store_true", help="narrow models, for a CPU")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--folder", type=Path, help="of the priors; they stay there")
    parser.add_argument("--commit")
    parser.add_argument("--write", type=Path, metavar="PAGE.md")
    parser.add_argument("--json", type=Path)


def check(options: argparse.Namespace, engines: Sequence[str]) -> None:
    """Fill in the engines, raise `ValueError` where one cannot run, and take the threads that commands take."""
    require_device(options.device)
    limit_threads(options.device)
    options.engines = options.engines or (list(engines) if options.device == "cuda" else ["eager"])
    for engine in options.engines:
        records(engine, torch.device(options.device))


def load(name: str, options: argparse.Namespace) -> Prior:
    """A prior of random weights, written to its folder unless it is there."""
    size = "tiny" if options.tiny else "priors"
    folder = (options.folder or Path(tempfile.gettempdir()) / f"hash3d-random-{size}") / name
    write_random_prior(name, folder, device=options.device, tiny=options.tiny)
    return (load_zero123 if name == ZERO123 else load_stable_diffusion)(str(folder), torch.device(options.device))


@torch.no_grad()
def pair(prior: Prior, views: int = 1) -> dict[str, Any]:
    """The U-Net's inputs for a guidance pair of some views: each with its condition and without."""
    generator, size = torch.Generator().manual_seed(0), prior.unet.config.sample_size
    noisy = torch.randn((views, 4, size, size), generator=generator).to(prior.device, prior.dtype)
    timesteps = torch.full((views,), 500)
    if isinstance(prior, Zero123Prior):
        condition = prior.condition(torch.zeros(1, 3, prior.image_size, prior.image_size, device=prior.device))
        return prior.make_guided_inputs(noisy, timesteps, condition.expand(views), torch.zeros(views, 4))
    embeddings = [prior.embed([prompt]).expand(views, -1, -1) for prompt in (PROMPT, "")]
    return prior.make_guided_inputs(noisy, timesteps, *embeddings)


def timed(function: Callable[[], object], device: torch.device, repeats: int, warm_up: int = 3) -> Spread:
    """Milliseconds of a call."""
    return spread([1000.0 * seconds for seconds in seconds_of(function, device, repeats, warm_up=warm_up)])


def cell(ms: Spread) -> str:
    """The median with its quartiles."""
    return f"{ms.median:.2f} ({ms.first_quartile:.2f}-{ms.third_quartile:.2f})"


def publish(
    options: argparse.Namespace, title: str, question: str, rows: list[dict[str, Any]], lines: list[str]
) -> None:
    """Print the lines, and write the files that are wanted."""
    print("\n".join(lines))
    account = describe_machine(Path(), options.device, commit=options.commit or commit()).account()
    account |= {"command": command_line(), "versions": versions()}
    made = (
        f"`{account['command']}`, commit {account['commit']}, {account['hardware']}, {account['date']}, "
        f"{json.dumps(account['versions'])}. Medians of {options.repeats}, in brackets the quartiles."
    )
    if options.json:
        write_text(options.json, json.dumps({**account, "rows": rows}, indent=1) + "\n")
    if options.write:
        write_measured(options.write.with_suffix(""), title, question, [made, "", *lines])
