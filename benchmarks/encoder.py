"""Pictures to latents: what each encoding costs with its gradient, and how far that is from the exact one.

Usage:
    python benchmarks/encoder.py --only quality --device cpu --write docs/benchmarks/encoder.md
    python benchmarks/encoder.py --only time --write docs/benchmarks/encoder.md
    python benchmarks/encoder.py --tiny --device cpu --repeats 3 --distil-seconds 0

Quality: the embedded priors' trained autoencoders, and pictures. Time: Stable Diffusion's autoencoder and taesd's
layout with random weights. Rows are kept in a JSON file beside the page, so that the parts, or some engines or
encodings alone, may be measured one after the other, on different machines; a row that is measured again is replaced.
"""

import argparse
import json
import shlex
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny
from encoder_quality import EMBEDDED, quality_rows
from random_models import Prior, add_options, cell, check, load, timed

from hash3d.bench.figures import Spread
from hash3d.bench.sharing import with_shared_weights
from hash3d.cli.bench import commit
from hash3d.experiments.measured import all_of, describe_machine, provenance, write_measured
from hash3d.files import write_text
from hash3d.markdown import markdown_table
from hash3d.priors.random import SD_21

Row = dict[str, Any]
TITLE = "How pictures are encoded"
QUESTION = "What does each encoding cost with its gradient, and how far is that from the exact one?"
ENCODINGS = ("exact", "fixed_norms", "eight_bits", "half", "half_gradient", "tiny")
SIZES, TINY_SIZES = (512, 256), (64, 32)
BATCHES = (1, 4)
KEYS = ("part", "prior", "encoding", "engine", "size", "batch", "tiny")


def random_prior(options: argparse.Namespace) -> Prior:
    """Stable Diffusion with a tiny autoencoder, both of random weights."""
    prior = load(SD_21, options)
    narrow = {"encoder_block_out_channels": (8,) * 4, "num_encoder_blocks": (1,) * 4} if options.tiny else {}
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        AutoencoderTiny(**narrow).half().save_pretrained(folder)
        prior.load_tiny(folder)
    return prior


def on_engine(prior: Prior, engine: str) -> Prior:
    """The prior in modules of its own, run by an engine; `compile` is torch.compile of the eager encoders."""
    own = with_shared_weights(prior)
    own.use_engine("eager" if engine == "compile" else engine)
    if engine == "compile":
        own.vae.encoder, own.tiny.encoder = (torch.compile(each.encoder, dynamic=False) for each in (own.vae, own.tiny))
    return own


def time_rows(options: argparse.Namespace) -> list[Row]:
    """The encoder there and back: each encoding on each engine, and its gradient's cosine with the exact eager one."""
    prior, rows = random_prior(options), []
    for size in TINY_SIZES if options.tiny else SIZES:
        for batch in BATCHES:
            generator = torch.Generator().manual_seed(0)
            picture = torch.rand((batch, 3, size, size), generator=generator).to(prior.device).requires_grad_()
            latents = on_engine(prior, "eager").encode(picture)
            cotangent = torch.randn(latents.shape, generator=generator).to(latents)
            exact = torch.autograd.grad(latents, picture, cotangent)[0].float().flatten()
            del latents
            for engine in options.engines:
                for encoding in options.encodings:
                    if engine == "compile" and encoding in ("fixed_norms", "eight_bits"):
                        continue  # Their own autograd functions around Triton's kernels stay outside of torch.compile.
                    own = on_engine(prior, engine)

                    def gradient(own: Prior = own, encoding: Any = encoding) -> torch.Tensor:
                        encoded = own.encode(picture, encoding=encoding)  # noqa: B023
                        (found,) = torch.autograd.grad(encoded, picture, cotangent)  # noqa: B023
                        return found

                    ms = timed(gradient, prior.device, options.repeats)
                    cosine = float(torch.cosine_similarity(gradient().float().flatten(), exact, dim=0))
                    row = {"part": "time", "encoding": encoding, "engine": engine, "size": size, "batch": batch}
                    rows.append({**row, "tiny": options.tiny, "ms": asdict(ms), "cosine": cosine})
                    print(size, batch, engine, encoding, cell(ms), f"{cosine:.4f}", flush=True)
                    del own, gradient
                    if prior.device.type == "cuda":
                        torch.cuda.empty_cache()
                        torch.compiler.reset()
    return rows


def quality_lines(rows: list[Row]) -> list[str]:
    """A table of each prior's contestants: means over pictures, in brackets the least."""
    if not rows:
        return ["Not measured yet."]
    kinds = list(rows[0]["cosine"])
    lines = [
        f"`{all_of(rows, 'command')}`; {provenance(rows)}; torch {all_of(rows, 'torch')}. {rows[0]['pictures']} "
        "pictures: the mean cosine of the picture's gradient with the exact one, in brackets the least.",
        "",
    ]
    cells = [
        [
            row["prior"],
            row["encoding"],
            f"{row['error']:.3f}",
            *("{:.3f} ({:.3f})".format(*row["cosine"][kind]) for kind in kinds),
        ]
        for row in rows
        if row["encoding"] != "exact"
    ]
    return lines + markdown_table(("prior", "encoding", "error of the latents", *kinds), cells, words=2)


def time_lines(rows: list[Row]) -> list[str]:
    """A table of the encodings at each size and batch, one column an engine."""
    if not rows:
        return ["Not measured yet."]
    engines = list(dict.fromkeys(row["engine"] for row in rows))
    by_key = {(row["size"], row["batch"], row["encoding"], row["engine"]): row for row in rows}
    cells = []
    for size, batch, encoding in dict.fromkeys(key[:3] for key in by_key):
        found = [by_key.get((size, batch, encoding, engine)) for engine in engines]
        shown = ["" if row is None else cell(Spread(**row["ms"])) for row in found]
        cosines = ", ".join("-" if row is None else f"{row['cosine']:.4f}" for row in found)
        cells.append([encoding, str(size), str(batch), *shown, cosines])
    heads = ("encoding", "size", "batch", *(f"{engine}, ms" for engine in engines), "cosine, random weights")
    lines = [
        f"`{all_of(rows, 'command')}`; {provenance(rows)}; torch {all_of(rows, 'torch')}. Medians of "
        f"{all_of(rows, 'repeats')}, in brackets the quartiles.",
        "",
    ]
    return lines + markdown_table(heads, cells)


def merged(before: list[Row], rows: list[Row]) -> list[Row]:
    """The rows measured before without those measured again, and the new ones."""
    again = {tuple(row.get(key) for key in KEYS) for row in rows}
    kept = [row for row in before if tuple(row.get(key) for key in KEYS) not in again]
    timed_rows = [row for row in kept + rows if row["part"] == "time"]
    timed_rows.sort(key=lambda row: (-row["size"], row["batch"], ENCODINGS.index(row["encoding"])))
    return [row for row in kept + rows if row["part"] != "time"] + timed_rows


def main() -> None:
    """Measure what is asked, print, keep, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, repeats=20, priors=(SD_21,))
    parser.add_argument("--only", choices=("quality", "time"), help="measure one part and keep the other's rows")
    parser.add_argument("--encodings", nargs="+", choices=ENCODINGS, default=list(ENCODINGS), help="to time")
    parser.add_argument("--embedded", nargs="+", choices=EMBEDDED, default=list(EMBEDDED), help="whose quality")
    parser.add_argument("--pictures", type=Path, default=Path("examples/pictures"), help="a folder of PNG pictures")
    parser.add_argument("--distil-seconds", type=float, default=300.0, help="for a tiny encoder; 0 leaves it out")
    options = parser.parse_args()
    check(options, ("eager", "graph", "compile"))
    account = describe_machine(Path(), options.device, commit=options.commit or commit()).account()
    account |= {"command": shlex.join(["python", *sys.argv]), "torch": torch.__version__, "repeats": options.repeats}
    rows = [] if options.only == "time" else quality_rows(options)
    rows += [] if options.only == "quality" else time_rows(options)
    kept = options.json or (options.write and options.write.with_suffix(".json"))
    before = json.loads(kept.read_text())["rows"] if kept and kept.exists() else []
    rows = merged(before, [{**row, **account} for row in rows])
    quality, time = ([row for row in rows if row["part"] == part] for part in ("quality", "time"))
    lines = ["## The gradient", "", *quality_lines(quality), "", "## The time", "", *time_lines(time)]
    print("\n".join(lines))
    if kept:
        write_text(kept, json.dumps({"rows": rows}, indent=1) + "\n")
    if options.write:
        write_measured(options.write.with_suffix(""), TITLE, QUESTION, lines)


if __name__ == "__main__":
    main()
