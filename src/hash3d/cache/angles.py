"""Whether angles are degrees."""

import math
from collections.abc import Sequence

from .messages import tell

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
