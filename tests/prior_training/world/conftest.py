import pytest
import torch

from prior_training.world import sample_objects


@pytest.fixture(scope="session")
def upright():
    """The first 1,200 objects, upright: sampling many costs seconds."""
    return sample_objects(torch.arange(1200), posed=False)
