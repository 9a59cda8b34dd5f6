"""How many threads a command takes beside a GPU, and what it asks of Ray."""

import sys
import types

import pytest
import torch

from hash3d.cli.host import BESIDE_GPU, limit_threads, require_device, start_ray


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


def test_ray_makes_the_pool_and_repeats_what_died(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r'-m pip install "hash3d\[ray\]"'):
        start_ray("auto", 3, 2, "cuda")
    pool = types.ModuleType("ray.util.multiprocessing")
    pool.Pool = lambda **given: given
    for name, module in (("ray", types.ModuleType("ray")), ("ray.util", types.ModuleType("u")), (pool.__name__, pool)):
        monkeypatch.setitem(sys.modules, name, module)
    given = start_ray("head:6379", 3, 2, "cuda")
    assert (given["processes"], given["ray_address"]) == (3, "head:6379")
    assert given["ray_remote_args"] == {"num_cpus": 2, "num_gpus": 1, "max_restarts": -1, "max_task_retries": -1}
