"""What a cache has to tell, at the line of whoever called, not at one of this package or of those between."""

import math
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .keeping import CacheStatistics, Keeping

BETWEEN = ("hash3d", "torch", "diffusers", "accelerate", "contextlib", "jaxtyping", "beartype")
MESSAGES = {
    "not finite": "A U-Net pass gave NaN or infinity, such as an overflow in half precision; its feature is not kept.",
    "little memory": "max_bytes={} holds {} entries of {} bytes, but this configuration can fill {}: the oldest leave "
    "early. Set max_bytes to {}.",
    "unseen": "The conditioning inputs of the last 8 U-Net calls were never seen before, so that no feature could "
    "be reused. Keep the embeddings in one tensor, or say in cache.view(scope=...) what they depend on besides the "
    "view, such as the prompt.",
    "changing settings": "The U-Net was set another way in each of the last 8 calls, so that no feature could be "
    "reused: an attribute of a layer, or what a hook or attention processor holds, is new each time.",
    "always anew": "The cache started anew in each of the last 8 calls, so that no feature could be reused: weights, "
    "sizes, dtypes or the number of guidance branches change in each, as where weights are offloaded layer by layer.",
    "other timestep": "cache.view was given another timestep than the U-Net: features are reused at the same pair "
    "only. Leave the timestep out of cache.view to take the call's.",
    "unread timestep": "cache.view was given another timestep than the U-Net: features are reused by the view's. Leave "
    "it out of cache.view to take the call's, for which it waits for the GPU.",
    "unlike branches": "The guidance branches of a view have different noisy latents: are they views? Give cache.view "
    "one number for each view of the batch. A reuse goes by the first branch's latents.",
    "like views": "Two views of a call have the same noisy latents: are they guidance branches of one view? Give "
    "cache.view one number for each view of the batch, not for each row; in calls of some of the views, only theirs.",
    "fewer branches": "A cache.view with a scope had fewer calls than others, with conditioning tensors never "
    "seen: its guidance branches may have been mistaken for others. Keep the embeddings of a branch in one tensor.",
    "guests left out": "Layers of the U-Net have hooks, forwards or attention processors of others. On layers that a "
    "reuse leaves out these do not run: what they collect is that of an earlier call.",
    "not asked": "No call of the cache's U-Net came within a cache.view. If one ran there, it was another module's, or "
    "a hook that was there before the cache took it along when it went: remove_hash3d(unet), then apply_hash3d again.",
    "other weights": "The cache's features are of other weights than this U-Net's: they are forgotten.",
    "written": "Weights of the U-Net were written behind PyTorch's back, such as through parameter.data: the features "
    "are forgotten, but calls since then may have used them. Call cache.reset() after such a write.",
}


def tell(message: str) -> None:
    """Warn at the nearest caller's line outside of this package, torch and diffusers."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in BETWEEN:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


def summarize(statistics: "CacheStatistics") -> str:
    """A cache's counts and means in a line."""
    summary, passes = statistics.summary(), statistics.full + statistics.shallow
    gaps = ", ".join(f"{name} {gap:.3g}" for name, gap in summary["mean_gap"].items())
    bypassed = "".join(f"; {count} calls bypassed: {reason}" for reason, count in statistics.bypassed.items())
    return (
        f"{statistics.hits} hits of {statistics.lookups} lookups; {statistics.shallow} of {passes} passes reused a "
        f"feature ({statistics.reuse_share:.1%}); mean gap: {gaps}; mean age: {summary['mean_age_steps']:.3g} steps"
        f"{bypassed}{f'; {statistics.not_finite} features were not finite' if statistics.not_finite else ''}"
    )


RADIANS_AFTER = 16
"""Different azimuths within +-2 pi after which angles are taken for radians."""


class AngleWatch:
    """Tells once if angles look like radians: many azimuths, none a whole number, all within +-2 pi."""

    def __init__(self) -> None:
        self._azimuths: set[float] | None = set()

    def see(self, places: Sequence[dict[str, float]]) -> None:
        """Look at the angles of a view block, until one has shown that they are degrees."""
        if self._azimuths is None:
            return
        if any(abs(place[name]) > 2 * math.pi for place in places for name in ("elevation", "azimuth")):
            self._azimuths = None
            return
        self._azimuths |= {place["azimuth"] for place in places if place["azimuth"] % 1.0}
        if len(self._azimuths) >= RADIANS_AFTER and max(self._azimuths) - min(self._azimuths) > 1.0:
            tell("All angles of cache.view so far lie within +-2 pi: are they radians? Expected degrees.")
            self._azimuths = None


def tabulate(cache: "Keeping") -> str:
    """A cache's account as a Markdown table of one row, then why calls ran without it."""
    statistics, summary = cache.statistics, cache.summary()
    error = summary["guard"]["mean_error"]
    cells = {
        "cut": cache.cut, "passes": statistics.full + statistics.shallow, "reused": statistics.shallow,
        "share": f"{statistics.reuse_share:.1%}", "lookups": statistics.lookups,
        **{f"{name} apart": f"{gap:.3g}" for name, gap in summary["mean_gap"].items()},
        "steps apart": f"{summary['mean_age_steps']:.3g}", "spot checks": summary["guard"]["audits"],
        "their error": "" if error is None else f"{error:.2g}", "MiB": f"{summary['bytes'] / 2**20:.0f}",
    }  # fmt: skip
    rows = (cells, ["---:"] * len(cells), cells.values())
    lines = [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join([*lines, *(f"{n} calls ran in full: {reason}." for reason, n in statistics.bypassed.items())])
