"""What `hash3d bench` is compared with: DeepCache and the released code, at the share of reused passes that ours has.

That share is found on the host alone, since keys decide it and not features.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from hash3d.bench.measure import OFF_EAGER, Case, Contestant
from hash3d.cache import CacheConfig, DeepCacheConfig, FeatureCache, Hash3DConfig, Key
from hash3d.cache.table import HashTable
from hash3d.recipes.recipe import Recipe
from hash3d.recipes.stage import Stage
from hash3d.recipes.view_order import make_keys
from hash3d.systems import released_cache
from hash3d.training.trainer import GENERATORS

DEEPCACHE, RELEASED_EAGER = "DeepCache", "released, eager"
MOST_INTERVAL = 50
FILLING = 1000
"""Views, for 200 buckets of 3 entries."""
ENOUGH = 2**20
"""Bytes for entries of a few numbers each."""


@dataclass(frozen=True, kw_only=True)
class ViewSequence:
    """The cameras and timesteps of a run."""

    stage: Stage
    seed: int
    """Seeds the trainer's generator of cameras."""
    num_timesteps: int
    """Timesteps of the diffusion model."""
    steps: range
    """Those that count; the ones before are run too."""

    @cached_property
    def keys(self) -> list[list[Key]]:
        """The keys by step and view."""
        order = self.stage.view_order.build(self.stage.cameras)
        guidance, generator = self.stage.guidance, torch.Generator().manual_seed(self.seed)
        drawn = []
        for step in range(self.steps.stop):
            low, high = guidance.timestep_range(step, self.num_timesteps)
            cameras, timesteps = order.next(1, low, high, generator, shared_timestep=guidance.shared_timestep)
            drawn.append(make_keys(cameras, timesteps.tolist()))
        return drawn

    @cached_property
    def earlier(self) -> list[Key]:
        """The keys of `FILLING` independent views that such a run may have seen before."""
        sampler = replace(self.stage.cameras, batch_size=FILLING)
        generator = torch.Generator().manual_seed(self.seed + 1)
        low, high = self.stage.guidance.timestep_range(self.steps.start, self.num_timesteps)
        cameras = sampler.sample(1, generator)
        return make_keys(cameras, torch.randint(low, high + 1, (FILLING,), generator=generator).tolist())


def reuse_share(config: CacheConfig, draws: ViewSequence) -> float:
    """Return the share of shallow passes of a new cache.

    A byte budget that evicts, and an adaptive grid that learns from features, are not foreseen.
    """
    return share_of(replace(config, max_bytes=ENOUGH).build(), draws)


def share_of(cache: FeatureCache, draws: ViewSequence) -> float:
    """Return the share of shallow passes of a cache as it is; numbers stand for latents and features."""
    full = shallow = 0
    for step, keys in enumerate(draws.keys):
        if step == draws.steps.start:
            full, shallow = cache.statistics.full, cache.statistics.shallow
        queries = cache.lookup(keys)
        cache.statistics.record(queries, cache.step)
        if missed := [query for query in queries if not query.reuses]:
            cache.insert(missed, torch.zeros(len(keys), 1, 1, 1), torch.zeros(1, len(missed), 1))
    counts = cache.statistics.full - full, cache.statistics.shallow - shallow
    return counts[1] / max(sum(counts), 1)


def fill(
    cache: FeatureCache,
    draws: ViewSequence,
    latents: Float[Tensor, "1 C h w"],
    feature: Float[Tensor, "S 1 ..."],
    identity: str = "",
) -> None:
    """Bring a cache to the middle of a long run: one view's latents and feature for `FILLING` earlier views.

    The released code's lookup takes whatever lies in the bucket, so that its share of hits depends on how many of its
    200 buckets have anything in them. `identity` is that of the view's conditioning, which entries are found by.
    """
    for key in draws.earlier:
        cache.insert(cache.locate([key], [identity]), latents, feature)


def find_probability(share: float, config: Hash3DConfig, draws: ViewSequence) -> float:
    """The reuse probability with which a filled cache reuses a share of its passes: that over what it could serve."""
    filled = replace(config, max_bytes=ENOUGH, reuse_probability=1.0).build()
    fill(filled, draws, torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1))
    return min(share / max(share_of(filled, draws), share), 1.0) if share else 0.0


def sample_views(recipe: Recipe, *, num_timesteps: int, steps: range) -> ViewSequence:
    """Return the cameras and timesteps that a trainer samples, of which `steps` count."""
    seed = len(GENERATORS) * recipe.seed
    return ViewSequence(stage=recipe.stage, seed=seed, num_timesteps=num_timesteps, steps=steps)


def plan_baselines(recipe: Recipe, draws: ViewSequence) -> tuple[Case, Case]:
    """DeepCache and the released code on the eager engine, at nearly the share of reused passes of the recipe's cache.

    DeepCache gets the interval, and the released preset the probability, that come nearest; both have the recipe's
    order of cameras.
    """
    ours = draws.stage.cache or recipe.cache
    assert ours is not None
    share = reuse_share(ours, draws)
    interval = min(round(1.0 / max(1.0 - share, 1.0 / MOST_INTERVAL)), MOST_INTERVAL)
    probability = find_probability(share, released_cache(recipe.system), draws)
    released = replace(released_cache(recipe.system), reuse_probability=probability)
    return (
        Case(
            name=DEEPCACHE, cache=DeepCacheConfig(interval=interval, cut=ours.cut), engine="eager", unreused=OFF_EAGER
        ),
        Case(name=RELEASED_EAGER, cache=released, engine="eager", unreused=OFF_EAGER),
    )


def fill_released(contestant: Contestant, draws: ViewSequence) -> None:
    """Fill the released code's caches with what the first step has left, as in the middle of a long run."""
    for cache in (guidance.cache for guidance in contestant.trainer.guidances.values()):
        if contestant.case.name == RELEASED_EAGER and cache is not None:
            assert isinstance(cache.store, HashTable)
            entry, ((identity, _), _) = next(iter(cache.store.places.items()))
            fill(cache, draws, entry.latents.clone()[None], entry.feature.clone()[:, None], identity)
