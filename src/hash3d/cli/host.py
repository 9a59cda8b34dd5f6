"""What a command leaves of the host to others."""

import torch

BESIDE_GPU = 1
"""CPU threads of a command whose work a GPU does."""


def limit_threads(device: str) -> None:
    """One thread beside a GPU, where the host draws noise and cameras: others are awaited longer than they help.

    A lower limit, such as OMP_NUM_THREADS, stays; a run on a CPU keeps all. Measured in docs/benchmarks/speed.md.
    """
    if device == "cuda":
        torch.set_num_threads(min(BESIDE_GPU, torch.get_num_threads()))
