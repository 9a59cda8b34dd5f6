"""How a prior is trained."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from .architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a prior is trained."""

    out: Path
    """Folder for the prior (`prior/`) and the loss curves (`training.jsonl`)."""
    seconds: float = 540.0
    """Time for everything, the autoencoder included."""
    autoencoder_seconds: float = 75.0
    """Time for the autoencoder, if it is trained; never with `resume`."""
    cooldown_seconds: float = 60.0
    """A file `stop` in `out` ends the training: the rate then falls over this time."""
    resume: Path | None = None
    """A prior to start from."""
    autoencoder: Path | None = None
    """A prior's `vae` folder to use."""
    batch_size: int = 256
    """Examples a step and process."""
    learning_rate: float = 5e-4
    """Peak rate of AdamW."""
    decay_from: float = 0.5
    """Share of the time after which the rate falls (a cosine to a hundredth)."""
    drop: float = 0.12
    """Share of examples without their condition, for guidance."""
    num_objects: int = 8192
    """Objects in each process's buffer, with eight views each."""
    reserve: int = 100_000
    """Objects that wait to enter a process's buffer."""
    refresh_every: int = 16
    """Steps between two refreshes of `refresh_objects` objects."""
    refresh_objects: int = 128
    """Objects replaced by a refresh."""
    first_object: int = 0
    """Number of the first object; a resumed run takes another to see new ones."""
    seed: int = 0
    """Seeds weights, noise and samples."""
    compile: bool = False
    """Compile the U-Net and the encoder of its condition, and replay a step's gradients as a CUDA graph."""
    max_steps: int = 10_000_000
    """Ends earlier, for tests."""
    architecture: Architecture = field(default_factory=Architecture)


def rate_at(peak: float, step: int, warm_up: int, fall: float) -> float:
    """The learning rate: it rises over `warm_up` steps, and falls along a cosine to a hundredth as `fall` goes to 1."""
    return peak * min(1.0, (step + 1) / warm_up) * (0.505 + 0.495 * math.cos(math.pi * fall))
