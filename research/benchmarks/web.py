"""How long users wait, and how much memory the page takes, when several come to `hash3d web` at once.

Usage:
    python -m research.benchmarks.web --write docs/benchmarks/web.md

Each user sends the same picture at the same moment, by gradio's client, and waits for the splats. Memory is what the
page and its runs do not share with others (Pss), read four times a second.
"""

import argparse
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from hash3d.table.objects import describe_machine
from hash3d.table.report import markdown_table
from research.measured import commit, write_measured

from .command import describe_run

PICTURE = Path("examples/pictures/mushroom.png")
HEADS = ("users, quality", "runs at once", "first asset, s", "last asset, s", "page, MiB", "with its runs, MiB")
QUESTION = "How long do users of one page wait, and in how much memory?"


def measure(users: int, at_once: int, quality: str, port: int) -> list[str]:
    """The row of a page of its own: seconds until the first and the last user have their asset, and MiB at most."""
    from gradio_client import Client, handle_file

    options = [f"--at-once={at_once}", f"--waiting={users}", f"--port={port}", "--no-browser"]
    page = subprocess.Popen([sys.executable, "-m", "hash3d", "web", *options], stdout=subprocess.PIPE, text=True)
    assert page.stdout
    address, peaks, done = page.stdout.readline().split()[0], [0, 0], threading.Event()

    def watch() -> None:
        while not done.wait(0.25):
            own, runs = memory(page.pid), sum(map(memory, children(page.pid)))
            peaks[:] = [max(peaks[0], own), max(peaks[1], own + runs)]

    def visit(_: int) -> float:
        client, started = Client(address, verbose=False), time.monotonic()
        said = list(client.submit(handle_file(PICTURE), "splats", quality, api_name="/picture"))
        assert any(str(asset).endswith(".ply") for _, _, asset, _ in said), said
        return time.monotonic() - started

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ThreadPoolExecutor(users) as pool:
            waited = sorted(pool.map(visit, range(users)))
    finally:
        done.set()
        watcher.join()
        page.terminate()
        page.wait()
    figures = waited[0], waited[-1], peaks[0] / 1024, peaks[1] / 1024
    return [f"{users}, {quality}", str(at_once), *(f"{each:.0f}" for each in figures)]


def children(process: int) -> list[int]:
    """The processes that a process has started, on Linux."""
    with suppress(OSError):
        found = Path(f"/proc/{process}/task").glob("*/children")
        return [int(each) for path in found for each in path.read_text().split()]
    return []


def memory(process: int) -> int:
    """KiB of a process: its own pages, and its share of those that it has in common with others."""
    with suppress(OSError, StopIteration):
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("Pss:")).split()[1])
    return 0


def main() -> None:
    """Measure each number of runs at once, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=5)
    parser.add_argument("--at-once", type=int, nargs="+", default=[1])
    parser.add_argument("--quality", choices=("fast", "good", "best"), default="fast")
    parser.add_argument("--port", type=int, default=7899)
    parser.add_argument("--write", type=Path, metavar="PAGE.md")
    options = parser.parse_args()
    rows = [measure(options.users, each, options.quality, options.port) for each in options.at_once]
    lines = markdown_table(HEADS, rows)
    print("\n".join(lines))
    if options.write:
        account = describe_machine(Path(), "cpu", commit=commit()).account()
        made = f"{describe_run(account)}."
        write_measured(options.write.with_suffix(""), "The page", QUESTION, [made, "", *lines])


if __name__ == "__main__":
    main()
