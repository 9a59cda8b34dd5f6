"""In which order the systems visit views and timesteps: a cell of the cache is visited again while it is fresh."""

from dataclasses import replace

from hash3d.recipes.view_order import ViewOrderConfig

VIEW_ORDER = ViewOrderConfig(visits_per_cell=4, active_cells=8)
"""Three of four passes are reused, for a third of the guidance's cost. More visits save little more, and what a run
learns goes with its number of full passes (docs/experiments/frontier.md and variety.md)."""
TEXT_VIEW_ORDER = replace(VIEW_ORDER, visits_per_cell=2)
"""For the text systems at mini scale: a text fixes no view, so a part grows only from full passes that see it. With 2
visits half of the passes are full, and 2 of 28 objects were lost; with 4 visits 1 of 6 (docs/benchmarks/quality.md)."""
TWO_PRIOR_VIEW_ORDER = replace(VIEW_ORDER, visits_per_cell=2)
"""For Magic-123 at mini scale, where two models reuse at once: in the field's stage reuse with 4 visits costs 0.24 dB,
with 2 visits 0.16 (docs/benchmarks/quality.md)."""
