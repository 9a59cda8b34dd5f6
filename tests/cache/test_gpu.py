"""A cache on a GPU: nothing waits for it from lookup to insert, and its states go on there."""

import pytest
import torch

from hash3d.cache import Hash3DConfig
from tests.cache.entries import key


def normal(*shape, dtype, seed, size=1.0):
    return (size * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))).to("cuda", dtype)


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


@pytest.mark.gpu
@pytest.mark.parametrize(("given", "told"), [(400.0, 0), (0.4, 1)])
def test_another_timestep_than_the_calls_is_told_though_nothing_waits_for_it(given, told, recwarn):
    cache, sample, time = Hash3DConfig().build(), torch.zeros(2, 4, 8, 8).cuda(), torch.tensor(400).cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with cache.view(elevation=0.0, azimuth=0.0, radius=1.0, timestep=given):
            cache.check_batch(cache.current_view, sample, 4, time)
            cache.insert(cache.locate([key()]), sample[:1], sample[:, None])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()
    cache.lookup([key()])
    assert sum("another timestep than the U-Net" in str(each.message) for each in recwarn) == told
