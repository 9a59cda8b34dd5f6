"""How far two tensors are from each other."""

from torch import Tensor


def apart(got: Tensor, wanted: Tensor) -> float:
    """The norm of the difference over that of what is wanted."""
    return float((got - wanted).detach().norm() / wanted.detach().norm())
