"""Record the loss series of every system at mini scale, or compare two recordings: a refactoring changes no number.

Usage:
    python scripts/compare_losses.py record before.json              # with the package that this Python imports
    python scripts/compare_losses.py record after.json --steps 12
    python scripts/compare_losses.py record replay_off.json --systems zero123_gs --options="--replay-every 0"
    python scripts/compare_losses.py compare before.json after.json  # exit code 1 and a line for each difference
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

IMAGE, PROMPT = Path(__file__).parents[1] / "examples/pictures/mushroom.png", "a red mug with a blue handle"
INPUTS = {
    "zero123_gs": ("image",),
    "zero123_nerf": ("image",),
    "dreamgaussian": ("image",),
    "magic123": ("image", "prompt"),
    "sds_gs": ("prompt",),
    "dreamfusion": ("prompt",),
    "latent_nerf": ("prompt",),
    "magic3d": ("prompt",),
    "gaussiandreamer": ("prompt",),
}


def record(system: str, steps: int, more: list[str]) -> list[dict[str, float]]:
    """The metrics of each step of a run of one system with `more` options, without its times."""
    values = {"image": str(IMAGE), "prompt": PROMPT}
    inputs = [word for name in INPUTS[system] for word in (f"--{name}", values[name])]
    with TemporaryDirectory() as folder:
        options = ["--out", folder + "/run", "--steps", str(steps), "--seed", "7", "--device", "cpu"]
        command = [sys.executable, "-m", "hash3d", "generate", system, *inputs, *options, *more]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        lines = (Path(folder) / "run/metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return [{name: value for name, value in row.items() if not name.startswith("seconds")} for row in rows]


def compare(before: dict[str, list[dict[str, float]]], after: dict[str, list[dict[str, float]]]) -> list[str]:
    """A line for each system whose series differ, with the first step and the names that do."""
    lines = []
    for system in sorted(before.keys() | after.keys()):
        first, second = before.get(system, []), after.get(system, [])
        if len(first) != len(second):
            lines.append(f"{system}: {len(first)} steps against {len(second)}")
            continue
        for step, (old, new) in enumerate(zip(first, second, strict=True)):
            names = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
            if names:
                lines.append(f"{system}: step {step}: " + ", ".join(f"{n} {old.get(n)} {new.get(n)}" for n in names))
                break
    return lines


def main() -> int:
    """Record or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    recording = verbs.add_parser("record")
    recording.add_argument("file", type=Path)
    recording.add_argument("--steps", type=int, default=12)
    recording.add_argument("--systems", nargs="+", default=list(INPUTS), choices=list(INPUTS))
    recording.add_argument("--options", default="", help="More options of `hash3d generate`, in one string.")
    comparison = verbs.add_parser("compare")
    comparison.add_argument("files", type=Path, nargs=2)
    options = parser.parse_args()
    if options.verb == "record":
        series = {}
        for system in options.systems:
            series[system] = record(system, options.steps, options.options.split())
            print(system, *(f"{row['loss']:.6g}" for row in series[system]), flush=True)
        options.file.write_text(json.dumps(series))
        return 0
    differences = compare(*(json.loads(path.read_text()) for path in options.files))
    print("\n".join(differences) or "The same losses in every system.")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
