"""The device that a command runs on, and what it leaves of the host to others."""

from typing import Any

import torch

from hash3d.kernels import import_extra

BESIDE_GPU = 1
"""CPU threads of a command whose work a GPU does."""


def require_device(device: str) -> None:
    """Raise `ValueError` if CUDA is asked for and not there."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("Expected a CUDA device for --device cuda, but torch sees none. Pass --device cpu.")


def choose_device(name: str | None) -> torch.device:
    """Return the device of a name, by default a GPU if there is one; raise `ValueError` if it is not there."""
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    require_device(name)
    return torch.device(name)


def limit_threads(device: str) -> None:
    """One thread beside a GPU, where the host draws noise and cameras: others are awaited longer than they help.

    A lower limit, such as OMP_NUM_THREADS, stays; a run on a CPU keeps all. Measured in docs/benchmarks/speed.md.
    """
    if device == "cuda":
        torch.set_num_threads(min(BESIDE_GPU, torch.get_num_threads()))


def start_ray(address: str, count: int, threads: int, device: str) -> Any:
    """Start a pool of workers on a Ray cluster. Ray repeats elsewhere what a worker that dies was doing."""
    make = import_extra("ray.util.multiprocessing", "ray", "--ray").Pool
    needs = {"num_cpus": threads, "num_gpus": int(device == "cuda"), "max_restarts": -1, "max_task_retries": -1}
    return make(processes=count, ray_address=address, ray_remote_args=needs)
