"""The fused read against its definition, and a whole call without a synchronisation, on a GPU."""

import itertools

import pytest
import torch

from hash3d.cache import Hash3DConfig
from hash3d.cache.blend import blend_entries
from tests.cache.entries import key, make

SHAPES = [(2, 320, 8, 8), (4, 5, 3, 7), (1, 32, 16, 16)]
"""[S, C, h, w]; those of the second are aligned to no power of two."""
COUNTS = [(1,), (3,), (1, 3, 2), (1, 1), (40, 5)]
"""Entries of each view of a call."""
TOLERANCES = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}
"""Relative to features of size 1 to 4: float32 sums in another order; weights and products rounded to 11 or 8 bits."""


def normal(*shape, dtype, seed, size=1.0):
    return (size * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))).to("cuda", dtype)


def make_views(counts, shape, dtype, memory_format):
    """Random entries, a list for each view, and the views' latents."""
    seeds, size = itertools.count(), shape[2:]
    entries = [
        [
            make(
                key(),
                normal(4, *size, dtype=dtype, seed=next(seeds), size=0.3),  # Distances of about 3: a true blend.
                normal(*shape, dtype=dtype, seed=next(seeds)).to(memory_format=memory_format),
                step=0,
            )
            for _ in range(count)
        ]
        for count in counts
    ]
    return entries, [normal(4, *size, dtype=dtype, seed=next(seeds), size=0.3) for _ in counts]


@pytest.mark.gpu
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", list(TOLERANCES))
def test_the_fused_read_is_the_definition(dtype, memory_format):
    pytest.importorskip("triton")
    from hash3d.cache._triton_read import fits, read

    for shape, counts in itertools.product(SHAPES, COUNTS):
        entries, latents = make_views(counts, shape, dtype, memory_format)
        assert fits(entries)
        features = read(latents, entries)
        assert features.flatten(0, 1).is_contiguous(memory_format=memory_format)
        for view, count in enumerate(counts):
            expected = blend_entries(latents[view], entries[view], False)
            if count == 1:
                assert torch.equal(features[:, view], expected)
            tolerance = TOLERANCES[dtype]
            torch.testing.assert_close(features[:, view], expected, rtol=tolerance, atol=tolerance)


@pytest.mark.gpu
@pytest.mark.parametrize("store", ["table", "pool"])
def test_nothing_synchronises_from_lookup_to_insert(store):
    """The GPU sleeps in every call, so that whatever waited for it would show; and numbers are those of a CPU."""
    found = {}
    for device in ("cpu", "cuda"):
        cache = Hash3DConfig(store=store, pool_length=5, max_age=6).build()
        latents = [normal(2, 4, 8, 8, dtype=torch.float32, seed=step).to(device) for step in range(12)]
        features = [normal(2, 2, 16, 8, 8, dtype=torch.float32, seed=step).to(device) for step in range(12)]
        found[device] = []
        torch.cuda.set_sync_debug_mode("error")
        try:
            for step, noisy in enumerate(latents):
                keys = [key(azimuth=5 * (step % 4)), key(azimuth=180, timestep=step)]
                queries = cache.lookup(keys)
                if hits := [query for query in queries if query.reuses]:
                    found[device].append(cache.read(hits, noisy))
                torch.cuda._sleep(1_000_000)
                cache.insert(queries, noisy, features[step])
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert len(found["cpu"]) == len(found["cuda"]) == 11
    for one, other in zip(found["cpu"], found["cuda"], strict=True):
        torch.testing.assert_close(other.cpu(), one, rtol=1e-5, atol=1e-5)  # Sums of 256 in another order.


@pytest.mark.gpu
def test_a_state_goes_on_on_a_gpu():
    cache, copy = (Hash3DConfig().build() for _ in range(2))
    latents, features = (
        normal(1, 4, 8, 8, dtype=torch.float16, seed=0),
        normal(2, 1, 16, 8, 8, dtype=torch.float16, seed=1),
    )
    cache.insert(cache.locate([key()]), latents, features)
    copy.load_state_dict(cache.state_dict())
    assert torch.equal(copy.read(copy.lookup([key()]), latents), features)


@pytest.mark.gpu
def test_a_feature_that_is_not_finite_is_forgotten_as_soon_as_that_is_known():
    cache = Hash3DConfig().build()
    latents, good = normal(1, 4, 8, 8, dtype=torch.float16, seed=0), normal(2, 1, 16, 8, 8, dtype=torch.float16, seed=1)
    torch.cuda.set_sync_debug_mode("error")
    try:
        cache.insert(cache.locate([key()]), latents, good)
        cache.insert(cache.locate([key()]), latents, good * float("inf"))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()
    with pytest.warns(UserWarning, match="NaN or infinity"):
        (query,) = cache.lookup([key()])
    assert torch.equal(cache.read([query], latents), good)
    assert cache.statistics.not_finite == 1
