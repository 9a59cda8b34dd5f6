"""What a command leaves of the host to others."""

import torch

BESIDE_GPU = 4
"""CPU threads of a command whose work a GPU does."""


def limit_threads(device: str) -> None:
    """Few threads beside a GPU, where the host draws noise and cameras: many wait longer for each other than they help.

    A lower limit, such as OMP_NUM_THREADS, stays; a run on a CPU keeps all. Measured in docs/benchmarks/speed.md.
    """
    if device == "cuda":
        torch.set_num_threads(min(BESIDE_GPU, torch.get_num_threads()))
