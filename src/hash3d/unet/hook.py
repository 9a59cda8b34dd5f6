"""The forward of a U-Net with a cache: in a `view` block, views that hit run shallow and the others in full."""

from typing import Any

import torch
from torch import Tensor

from hash3d.cache import FeatureCache
from hash3d.cache.calls import Query, View

from . import Forward
from .model import choose, expect_all_views, join, prediction_of


class Hash3DForward(Forward):
    """Stands in the place of a U-Net's forward, and runs that one in full, in part, or for some of the views."""

    cache: FeatureCache

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any], inputs: dict[str, Any]) -> Tensor:
        """The prediction [S * B, C, h, w] for S branches of B views."""
        cache, call, view = self.cache, (args, kwargs), self.cache.current_view
        if view is None or not cache.is_enabled:
            return super().run(args, kwargs, inputs)
        expect_all_views(inputs, view)
        if not self._known:  # Else between two checks.
            cache.check_batch(view, inputs["sample"], self.layout.noisy_channels, inputs["timestep"])
        keys = view.keys(inputs["timestep"])
        queries = cache.lookup(keys, self.identify(inputs, view, keys), together=self.mixes_views)
        latents = view.split(inputs["sample"])[0]
        hits = [query for query in queries if query.reuses]
        full = [query for query in queries if not query.reuses]
        predictions: dict[int, Tensor] = {}
        if full:
            predicted, computed = self._run_full(call, full, view)
            predictions |= {query.row: predicted[:, place] for place, query in enumerate(full)}
            if checked := [query for query in full if query.spot_check]:
                reused = self._run_shallow(call, checked, cache.read(checked, latents), view)
                cache.check(reused, torch.stack([predictions[query.row] for query in checked], dim=1))
            cache.insert(full, latents, computed)
        if hits:
            predicted = self._run_shallow(call, hits, cache.read(hits, latents), view)
            predictions |= {query.row: predicted[:, place] for place, query in enumerate(hits)}
        cache.statistics.record(queries, cache.step)
        if not (full and hits):
            return join(predicted, view)
        return join(torch.stack([predictions[row] for row in range(len(queries))], dim=1), view)

    def _run_full(self, call: Any, queries: list[Query], view: View) -> tuple[Tensor, Tensor]:
        """Predictions [S, M, C, h, w] of M views, and what is kept of them."""
        rows = self.passes.fill([query.row for query in queries], len(view.places))
        args, kwargs = choose(call, rows, view)
        if self.cache.mode == "noise":
            output = kept = prediction_of(self.passes.plain_pass(*args, **kwargs))
        else:
            output, kept = self.passes.full_pass(*args, **kwargs)
        return view.split(prediction_of(output))[:, : len(queries)], view.split(kept)[:, : len(queries)]

    def _run_shallow(self, call: Any, queries: list[Query], features: Tensor, view: View) -> Tensor:
        """The predictions [S, M, C, h, w] of M views from the features [S, M, ...] read for them."""
        if self.cache.mode == "noise":
            return features
        rows = self.passes.fill([query.row for query in queries], len(view.places))
        args, kwargs = choose(call, rows, view)
        if padding := len(rows) - len(queries):
            features = torch.cat([features, *[features[:, -1:]] * padding], dim=1)
        prediction = prediction_of(self.passes.shallow_pass(join(features, view), *args, **kwargs))
        return view.split(prediction)[:, : len(queries)]
