"""Loading and guidance-pair times of the embedded priors on this machine's CPU.

Usage:
    python -m research.benchmarks.embedded --write docs/benchmarks/embedded.md
"""

import argparse
import datetime
from pathlib import Path

import torch

from hash3d.cli.doctor import prior_speeds
from hash3d.diffusion.loading import EMBEDDED, embedded_folder


def main() -> None:
    """Measure each prior, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--commit", default="unknown")
    options = parser.parse_args()
    lines = [
        "# The embedded priors on a CPU",
        "",
        f"`python -m research.benchmarks.embedded --repeats {options.repeats}`, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}, commit {options.commit}, {datetime.date.today()}. Medians. A guidance pair is one "
        "view with and without its condition; with reuse only the last up layer runs, as in a default cache.",
        "",
        "| prior | MB | loads in | guidance pair | with reuse |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name in EMBEDDED:
        size = sum(file.stat().st_size for file in embedded_folder(name).rglob("*") if file.is_file())
        loading, full, shallow = prior_speeds(name, options.repeats)
        lines.append(f"| `{name}` | {size / 1e6:.1f} | {loading:.1f} s | {full:.0f} ms | {shallow:.0f} ms |")
    print("\n".join(lines))
    if options.write:
        options.write.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
