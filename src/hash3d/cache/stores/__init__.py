"""Stores of features: the adaptive table, the pool without keys, and the last feature (DeepCache)."""
