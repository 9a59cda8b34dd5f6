"""In which order the systems draw views and timesteps: a cell of the cache is visited again while it is fresh."""

from dataclasses import replace

from hash3d.recipes.view_order import DrawOrderConfig

DRAWS = DrawOrderConfig(dwell=4, open_cells=8)
"""Three of four passes are reused, for a third of the guidance's cost. Longer stays save little more, and what a run
learns goes with its number of full passes (docs/experiments/frontier.md and variety.md)."""
TEXT_DRAWS = replace(DRAWS, dwell=2)
"""Of the text systems at mini scale: a text fixes no view, so a part grows only from full passes that see it. Half of
them stay, and of 28 things two are lost; with a dwell of 4 it was one of six (docs/benchmarks/quality.md)."""
TWO_PRIOR_DRAWS = replace(DRAWS, dwell=2)
"""Of Magic-123 at mini scale, where two models reuse at once: with a dwell of 4 in the field's stage reuse costs 0.24
dB, with one of 2 it costs 0.16 (docs/benchmarks/quality.md)."""
