"""All that a run is, as frozen dataclasses: stages, loss weights, the order of views, and their JSON."""
