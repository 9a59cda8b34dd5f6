"""Means with their errors."""

import math

from jaxtyping import Float
from torch import Tensor, full_like


def mean_and_error(values: Float[Tensor, "O *shape"]) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """Mean over O objects, and its standard error s / sqrt(O); of one object there is none (nan)."""
    error = values.std(0) / math.sqrt(len(values)) if len(values) > 1 else full_like(values[0], math.nan)
    return values.mean(0), error
