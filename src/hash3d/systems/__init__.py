"""The systems: one recipe file each."""
