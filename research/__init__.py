"""Studies and benchmarks. Not in the wheel; `requirements.txt` has what they need besides hash3d."""
