"""Recipes, losses, the one loop, and the run folder."""
