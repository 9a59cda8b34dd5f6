"""How many threads a command takes beside a GPU."""

import pytest
import torch

from hash3d.cli.host import BESIDE_GPU, limit_threads, require_device


@pytest.fixture
def threads():
    """Sets the number of threads; afterwards it is as before."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("device", "before", "after"), [("cuda", 16, BESIDE_GPU), ("cuda", BESIDE_GPU, BESIDE_GPU), ("cpu", 16, 16)]
)
def test_only_a_gpu_s_host_gets_fewer_threads(threads, device, before, after):
    threads(before)
    limit_threads(device)
    assert torch.get_num_threads() == after


def test_cuda_is_refused_where_there_is_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    require_device("cpu")
    with pytest.raises(ValueError, match="Expected a CUDA device for --device cuda, but torch sees none"):
        require_device("cuda")
