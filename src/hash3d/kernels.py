"""Whether there are kernels to stand in for PyTorch's definitions."""

from functools import cache
from importlib.util import find_spec


@cache
def has_triton() -> bool:
    """Whether Triton is installed. The cache asks for itself, as it imports nothing of ours."""
    return find_spec("triton") is not None
