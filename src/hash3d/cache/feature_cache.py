"""When to reuse a feature. The hook in `hash3d.unet` asks for each view of a call; this answers."""

from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch
from jaxtyping import Float
from torch import Tensor

from .calls import BranchOrder, Entry, Numbers, Query, View, copy_feature
from .grid import Key
from .keeping import Keeping


class FeatureCache(Keeping):
    """Decides for each view of a guidance call whether an earlier feature serves, and keeps what full passes compute.

    It draws from a generator of its own: switching the cache on or off changes no camera and no noise of a run.
    """

    def view(
        self,
        *,
        elevation: Numbers,
        azimuth: Numbers,
        radius: Numbers,
        timestep: Numbers | None = None,
        scope: object = None,
        branch_order: BranchOrder = "grouped",
    ) -> AbstractContextManager[None]:
        """Say which views the U-Net calls inside this block are for: B numbers each, or one for all.

        Args:
            elevation: in degrees.
            azimuth: in degrees.
            radius: in scene units.
            timestep: None takes the call's own (which waits for the GPU if it lies there).
            scope: what else a feature depends on, such as the prompt; any value. It vouches for the conditioning
                inputs; None compares these themselves, on a GPU by whether they are the same unchanged tensors.
            branch_order: "grouped" rows are `torch.cat([views] * S)`; "interleaved" ones are the S branches of the
                first view, then those of the second.
        """
        places = {"elevation": elevation, "azimuth": azimuth, "radius": radius}
        return self._open(View.parse(places, timestep, scope, branch_order))

    def lookup(
        self, keys: Sequence[Key], identities: Sequence[str] | None = None, *, together: bool = False
    ) -> list[Query]:
        """For each view what an earlier pass left: it `reuses` that, or a full pass is due. One call is one step.

        With `together`, as with `whole_batch`, one coin is tossed, and one miss makes all views run in full.
        """
        self.step += 1
        self._drop_spoilt()
        if self.config.max_age is not None:
            self.store.expire(self.step - self.config.max_age)
        queries, together = self.locate(keys, identities), together or self.config.whole_batch
        coins = [self.random.random() for _ in (keys[:1] if together else keys)]
        for query in queries:
            coin = coins[0 if together else query.row]
            query.tried = self.step > self.config.guard.warm_up and coin < self.reuse_probability
            query.entries = self.store.lookup(query.place, query.key) if query.tried else ()
        if together and not all(query.entries for query in queries):
            for query in queries:
                query.entries = ()
        if self.config.guard.audit_every is not None:
            self.guard.admit(queries, together)
        return queries

    def locate(self, keys: Sequence[Key], identities: Sequence[str] | None = None) -> list[Query]:
        """Where views fall in the store. Features of one cell but of different identities never meet."""
        given = identities or [""] * len(keys)
        return [Query(key=key, place=self.store.locate(key, row, given[row]), row=row) for row, key in enumerate(keys)]

    def insert(
        self, queries: Sequence[Query], latents: Float[Tensor, "B C h w"], features: Float[Tensor, "S M ..."]
    ) -> None:
        """Keep the features of M views that ran in full, as copies, if they are finite."""
        latents, features = latents.detach(), features.detach()
        size = self._prepare(latents[0], features[:, 0], len(latents))
        entries: list[Entry] = []
        good = self._are_finite(features, entries)
        for query, feature, finite in zip(queries, features.unbind(1), good, strict=True):
            own, copy = latents[query.row].clone(memory_format=torch.contiguous_format), copy_feature(feature)
            entries.append(Entry(key=query.key, latents=own, feature=copy, step=self.step, num_bytes=size))
            if finite:
                self.store.insert(entries[-1], query.place)
        self.statistics.peak_bytes = max(self.statistics.peak_bytes, self.store.num_bytes)
