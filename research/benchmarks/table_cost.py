"""What the cache itself costs: its bookkeeping on the host, and on a GPU the read and the write of a feature.

Usage: python -m research.benchmarks.table_cost [--write docs/benchmarks/table_cost.md] [--repeats 4000]

Host: calls of one view on a full table, with features of 32 numbers, so that the bookkeeping is all there is to see.
Four calls at a time go to one new place: the first misses, the others find 1, 2 and 3 entries; each inserts one. A GPU,
if there is one: features of Stable Diffusion 2.1 at the last cut, [2, 320, 64, 64] in half precision, with latents
[4, 64, 64], by events behind a sleep in which the host launches everything; the host's own time stands beside it.
"""

import argparse
import datetime
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from hash3d.cache import GridConfig, Hash3DConfig, Key
from hash3d.table.report import markdown_table
from research.measured import commit

ENTRIES = (10, 100, 1_000, 10_000)
ENTRY_BYTES = 4 * (4 * 2 * 2 + 2 * 4 * 2 * 2)
GRIDS = {"one": (), "three": (GridConfig(azimuth=40.0), GridConfig(azimuth=60.0))}
QUEUE = 3
FEATURE, LATENTS = (2, 320, 64, 64), (4, 64, 64)
PLACES = 20
"""Cells of the table on the GPU: what they hold is more than its second-level cache."""
DEVICE_REPEATS = 20
SLEEP = 20_000_000
"""Clock cycles of the GPU, about 10 ms: more than the host needs to launch a read or a write."""


def host_row(entries: int, others: tuple[GridConfig, ...], repeats: int) -> list[float]:
    """Median microseconds of keys with a lookup that misses, of keys with one that hits, and of an insert."""
    budget = entries * ENTRY_BYTES
    cache = Hash3DConfig(max_age=None, other_grids=others, queue_length=QUEUE, max_bytes=budget).build()
    latents, feature = torch.randn(1, 4, 2, 2), torch.randn(2, 1, 4, 2, 2)
    times: dict[str, list[float]] = {"miss": [], "hit": [], "insert": []}
    for call in range(entries + repeats):
        place = call // 4
        with cache.view(elevation=10.0, azimuth=60.0 * (place % 6), radius=1.05 + 0.1 * (place // 6), timestep=50.0):
            begin = time.perf_counter()
            (query,) = cache.lookup(cache.current_view.keys(50.0))
            middle = time.perf_counter()
            cache.insert([query], latents, feature)
            end = time.perf_counter()
        if call >= entries:
            times["hit" if query.reuses else "miss"].append(middle - begin)
            times["insert"].append(end - middle)
    return [1e6 * statistics.median(found) for found in times.values()]


def host_table(repeats: int) -> list[str]:
    """A row for each size of the table, of one grid and of three."""
    rows = [
        [name, f"{entries:,}", *(f"{value:.1f}" for value in host_row(entries, others, repeats))]
        for (name, others), entries in itertools.product(GRIDS.items(), ENTRIES)
    ]
    return markdown_table(["grids", "entries", "keys and a miss", "keys and a hit", "insert"], rows)


def measure(action: Callable[[int], object]) -> list[float]:
    """Median and largest microseconds of the GPU, and median of the host, over repeats; `action` gets their number."""
    device, host = [], []
    for repeat in range(DEVICE_REPEATS + 3):
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        torch.cuda._sleep(SLEEP)
        first.record()
        begin = time.perf_counter()
        action(repeat)
        host.append(1e6 * (time.perf_counter() - begin))
        last.record()
        torch.cuda.synchronize()
        device.append(1e3 * first.elapsed_time(last))
    return [statistics.median(device[3:]), max(device[3:]), statistics.median(host[3:])]


def device_rows(views: int) -> list[list[str]]:
    """Reads of 1 and of 3 entries a view, and a write, of calls of so many views."""
    cache = Hash3DConfig(max_age=None, max_bytes=PLACES * QUEUE * 6 * 2**20).build()
    latents = torch.randn(views, *LATENTS, device="cuda", dtype=torch.float16)
    memory = {"device": "cuda", "dtype": torch.float16, "memory_format": torch.channels_last}
    feature = torch.empty(FEATURE[0] * views, *FEATURE[1:], **memory).normal_().unflatten(0, (FEATURE[0], views))
    keys = [
        [Key(elevation=10.0, azimuth=20.0 * place, radius=1.05 + 0.1 * view, timestep=50.0) for view in range(views)]
        for place in range(PLACES // views)
    ]
    rows = []

    def add(what: str, action: Callable[[int], object]) -> None:
        rows.append([str(views), what, *(f"{value:.1f}" for value in measure(action))])

    def insert(repeat: int) -> None:
        cache.insert(cache.locate(keys[repeat % len(keys)]), latents, feature)

    for entries in range(1, QUEUE + 1):
        for place in range(len(keys)):
            insert(place)
        if entries == 2:
            continue
        finds = [cache.lookup(each) for each in keys]
        add(f"read {entries}", lambda repeat, finds=finds: cache.read(finds[repeat % len(finds)], latents))
    add("write", insert)
    return rows


def device_table() -> list[str]:
    """Reads and writes on the GPU."""
    heads = ["views", "what", "GPU, median", "GPU, largest", "host, median"]
    return markdown_table(heads, [row for views in (1, 4) for row in device_rows(views)], words=2)


def page(options: argparse.Namespace, on_host: Sequence[str], on_device: Sequence[str]) -> str:
    """The tables, and how they came about."""
    gpu = torch.cuda.get_device_name() if on_device else "no GPU"
    lines = [
        "# What the cache itself costs",
        "",
        f"`python -m research.benchmarks.table_cost --repeats {options.repeats}`, commit {options.commit or commit()}, "
        f"{gpu}, {os.cpu_count()} CPU cores, torch {torch.__version__}, {datetime.date.today()}. Microseconds.",
        "",
        f"The host's bookkeeping for a call of one view on a full table; medians of {options.repeats} calls, of which",
        "one in four misses. The feature has 32 numbers, so that an insert's copies are launches alone.",
        "",
        *on_host,
    ]
    if on_device:
        lines += [
            "",
            f"Features {list(FEATURE)} and latents {list(LATENTS)} in half precision, channels last; {DEVICE_REPEATS} "
            "repeats, by events behind a sleep.",
            "",
            *on_device,
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the page, and write it if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--repeats", type=int, default=4000)
    parser.add_argument("--commit", help="by default what git says")
    options = parser.parse_args()
    found = page(options, host_table(options.repeats), device_table() if torch.cuda.is_available() else [])
    print(found)
    if options.write:
        options.write.write_text(found)


if __name__ == "__main__":
    main()
