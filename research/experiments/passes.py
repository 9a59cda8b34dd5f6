"""What a full and a shallow pass of a prior's U-Net cost."""

import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from hash3d.diffusion.zero123 import Zero123Prior
from hash3d.table.objects import Machine, Row
from hash3d.table.runner import Rows
from hash3d.training.guide import load_zero123
from hash3d.unet import remove_hash3d
from hash3d.unet.partial_unet import PartialUNet
from research.timing import seconds_of

REPEATS = 20


def keep_timing(rows: Rows, prior: str, machine: Machine) -> None:
    """Time the passes of a prior (a folder, or an embedded prior's name), and keep them as a row of their own."""
    torch.set_num_threads(machine.threads)
    pass_ms = time_passes(load_zero123(prior, torch.device(machine.device)))
    rows.append({"prior": Path(prior).name, "pass_ms": pass_ms, **machine.account()})


def find_timing(rows: Rows, device: str) -> Row | None:
    """The last row with the times of full and shallow passes on a device."""
    timed = [row for row in rows.read() if "pass_ms" in row and row["device"] == device]
    return timed[-1] if timed else None


@torch.no_grad()
def time_passes(prior: Zero123Prior, repeats: int = REPEATS) -> dict[str, Any]:
    """Median milliseconds of a guidance pair of one view: `full`, and `shallow` by cut; they take turns."""
    remove_hash3d(prior.unet)
    size, device = prior.unet.config.sample_size, prior.device
    picture = torch.zeros(1, 3, prior.image_size, prior.image_size, device=device)
    noisy = torch.randn(1, 4, size, size, generator=torch.Generator().manual_seed(0)).to(device, prior.dtype)
    pose, timesteps = torch.zeros(1, 4, device=device), torch.tensor([500], device=device)
    inputs = prior.make_guided_inputs(noisy, timesteps, prior.condition(picture), pose)

    calls: list[Callable[[], object]] = [lambda: prior.unet(**inputs)]
    for cut in range(PartialUNet(prior.unet, 0).num_cuts):
        split = PartialUNet(prior.unet, cut)
        calls.append(partial(split.shallow_pass, split.full_pass(**inputs)[1], **inputs))
    turns = [[seconds_of(call, device, 1, warm_up=1)[0] for call in calls] for _ in range(repeats)]
    full, *shallow = (1000.0 * statistics.median(times) for times in zip(*turns, strict=True))
    return {"full": full, "shallow": shallow}
