"""`hash3d web`: a page on this machine, where pictures and sentences become assets."""

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from .options import parse
from .parsing import Maybe, parse_options
from .streams import say
from .visits import LONGEST_PROMPT, SYSTEMS, Visits

PURPOSES = (("splats: quick, for viewers on the web", "splats"), ("a textured mesh, for Blender or Unity", "mesh"))
SHOWN, KEPT = ("model.glb", "model.ply"), ("model.glb", "model.ply", "turntable.mp4", "view.html", "summary.json")
"""What the page shows, the first there is, and what can be downloaded."""
SECONDS_KEPT = 6 * 3600
"""Of an upload."""
WELCOME = """# hash3d
A picture of one object, with an alpha channel or on a plain ground, or a sentence, becomes a 3D asset. If others go
first, yours waits for its turn; reload the page to leave the queue. What you make is deleted when you close the page:
download it."""


@dataclass(frozen=True, kw_only=True)
class Web:
    """Serve a page on this machine that makes assets of pictures and sentences; Ctrl+C ends it.

    Only this machine reaches it, and only files of its own, which are deleted when a visitor leaves. Options after a
    lone -- are those of `hash3d generate` for all runs.
    """

    port: Maybe[int] = None
    """Where it listens; by default the first free one from 7860."""
    at_once: Annotated[int, tyro.conf.arg(help_behavior_hint="(default: 1)")] = 1
    """Runs at a time. Each loads its own model."""
    waiting: Annotated[int, tyro.conf.arg(help_behavior_hint="(default: 8)")] = 8
    """Runs that may wait for their turn; further ones are refused."""
    megabytes: Annotated[int, tyro.conf.arg(help_behavior_hint="(default: 10)")] = 10
    """The largest picture that can be sent."""
    device: Maybe[Literal["cpu", "cuda"]] = None
    """Where to run; by default the GPU if there is one."""
    no_browser: bool = False
    """Print the address, but open nothing."""


def main(arguments: list[str]) -> int:
    """Serve the page until Ctrl+C. Returns the exit code."""
    place = arguments.index("--") if "--" in arguments else len(arguments)
    options, shared = parse_options(Web, "web", arguments[:place]), arguments[place + 1 :]
    for name in ("at_once", "waiting", "megabytes"):
        if getattr(options, name) < 1:
            raise ValueError(f"Expected --{name.replace('_', '-')} to be at least 1, but got {getattr(options, name)}.")
    if options.device:
        shared = [f"--device={options.device}", *shared]
    for (kind, _), system in SYSTEMS.items():
        parse([system, f"--{kind}=given", *shared])  # A mistake is told before anybody comes.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="hash3d-web-", ignore_cleanup_errors=True) as root:
        os.environ |= {"GRADIO_TEMP_DIR": root, "GRADIO_ANALYTICS_ENABLED": "False"}
        visits = Visits(Path(root), shared)
        try:
            page = serve(visits, options)
            say(f"{page.local_url} (Ctrl+C ends it)")
            signal.pause()
        except KeyboardInterrupt:
            return 0
        finally:
            visits.close()
            signal.signal(signal.SIGTERM, before)
    return 0


def serve(visits: Visits, options: Web) -> Any:
    """Start a server of the page, on this machine only. Returns the page, whose `close` ends it."""
    from hash3d.kernels import import_extra

    gradio = import_extra("gradio", "web", "the page")
    page = build_page(gradio, visits, options.at_once)
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}  # No others are fetched.
    page.queue(max_size=options.waiting).launch(
        server_name="127.0.0.1", server_port=options.port, share=False, inbrowser=not options.no_browser, quiet=True,
        prevent_thread_lock=True, max_file_size=f"{options.megabytes}mb", ssr_mode=False, footer_links=[],
        theme=gradio.themes.Default(**fonts), enable_monitoring=False,
    )  # fmt: skip
    return page


def make_handler(gr: Any, visits: Visits, kind: str) -> Callable[..., Iterator[tuple[Any, ...]]]:
    """What a button starts: a run of an "image" or a "prompt", which yields what the page shows of it."""

    def make(value: str | None, purpose: str, quality: str, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        yield "starting", None, None, None
        shown = 0
        try:
            for look in visits.make(request.session_hash, kind, (value or "").strip(), purpose, quality):
                for preview in look.find("preview.png"):
                    if (written := os.stat(preview).st_mtime_ns) > shown:
                        shown = written  # A file of its own: a browser does not load the same one again.
                        fresh = shutil.copy(preview, look.folder / f"preview-{shown}.png")
                        yield look.said, fresh, gr.skip(), gr.skip()
                asset, files = (look.find(*SHOWN), look.find(*KEPT)) if look.done else ([], [])
                yield look.said, gr.skip(), asset[0] if asset else gr.skip(), files or gr.skip()
            yield gr.skip(), gr.skip(), gr.skip(), gr.skip()  # The last is sent twice, which keeps meshes from showing.
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from error

    return make


def build_page(gr: Any, visits: Visits, at_once: int) -> Any:
    """Lay out the page, and connect it to the runs."""

    def stop(request: gr.Request) -> None:
        visits.find(request.session_hash).stop()

    def leave(request: gr.Request) -> None:
        visits.leave(request.session_hash)

    with gr.Blocks(title="hash3d", analytics_enabled=False, delete_cache=(600, SECONDS_KEPT)) as page:
        gr.Markdown(WELCOME)
        with gr.Row():
            with gr.Column():
                with gr.Tab("Picture"):
                    picture = gr.Image(
                        type="filepath", image_mode=None, sources=["upload", "clipboard"], label="Picture"
                    )
                    of_picture = gr.Button("Make it", variant="primary")
                with gr.Tab("Sentence"):
                    sentence = gr.Textbox(
                        label="Sentence", placeholder="a red mug with a blue handle", max_length=LONGEST_PROMPT
                    )
                    of_sentence = gr.Button("Make it", variant="primary")
                purpose = gr.Radio(list(PURPOSES), value="splats", label="What for")
                quality = gr.Radio(["fast", "good", "best"], value="good", label="Quality")
                stopping = gr.Button("Stop, and keep what there is")
            with gr.Column():
                told = gr.Markdown(min_height=60)
                preview = gr.Image(label="Preview", show_label=False, interactive=False, buttons=[])
                asset = gr.Model3D(label="Asset", interactive=False, height=420)
                files = gr.File(label="Downloads", interactive=False, file_count="multiple")
        shown = [told, preview, asset, files]
        for name, button, kind, given in (
            ("picture", of_picture, "image", picture), ("sentence", of_sentence, "prompt", sentence)
        ):  # fmt: skip
            button.click(
                make_handler(gr, visits, kind), [given, purpose, quality], shown, api_name=name, concurrency_id="runs",
                concurrency_limit=at_once, show_progress_on=told,
            )  # fmt: skip
        stopping.click(stop, queue=False)
        page.unload(leave)
    return page
