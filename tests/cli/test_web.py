"""`hash3d web`: the page, asked as a browser asks, and in a browser. Needs gradio; the last test playwright, too."""

import contextlib
import json
import shutil
import sys
from io import BytesIO

import numpy as np
import pytest
import trimesh
from PIL import Image

from hash3d.cli import visits, web
from hash3d.cli.visits import Visits
from tests.cli.conftest import assert_refused, wait_until

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SOFTWARE = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader")
"""WebGL without a GPU."""
API = "/gradio_api"


@pytest.fixture
def page(tmp_path, monkeypatch, prior_folder):
    """`page(...)`: the address of a page with these options, whose runs take two steps a stage."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    pytest.importorskip("gradio", reason="the extra web is not installed")
    with contextlib.ExitStack() as stack:

        def start(**given):
            site = Visits(
                tmp_path, [f"--prior={prior_folder}", "--scale=mini", "--steps=4", "--size=32", "--device=cpu"]
            )
            served = web.serve(site, web.Web(no_browser=True, **given))
            stack.callback(served.close)
            stack.callback(site.close)
            return served.local_url.rstrip("/")

        yield start


@pytest.mark.parametrize("option", ["--at-once", "--waiting", "--megabytes"])
def test_limits_are_at_least_one(hash3d, option):
    assert_refused(hash3d("web", option, "0"), f"Expected {option} to be at least 1, but got 0")


def test_a_mistake_in_the_options_of_all_runs_is_told_at_once(hash3d):
    assert_refused(hash3d("web", "--", "--stpes", "3"), "--steps")


def test_without_gradio_the_command_that_brings_it_is_told(hash3d, monkeypatch):
    for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED"):
        monkeypatch.setenv(name, "")  # So that they are as before at the end.
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert_refused(hash3d("web", "--no-browser"), r'gradio.* is missing\. Run .* pip install "hash3d\[web\]"')


def join(client, name, *values, session="a"):
    """Ask an endpoint of the page."""
    fns = client.get("/config").json()["dependencies"]
    (index,) = (fn["id"] for fn in fns if fn["api_name"] == name)
    return client.post(f"{API}/queue/join", json={"data": values, "fn_index": index, "session_hash": session})


def ask(client, name, *values, session="a"):
    """Ask an endpoint of the page, and return its last message."""
    assert join(client, name, *values, session=session).status_code == 200
    with client.stream("GET", f"{API}/queue/data", params={"session_hash": session}, timeout=60) as lines:
        for line in lines.iter_lines():
            message = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
            if message.get("msg") == "process_completed":
                return message
    raise AssertionError("the page said nothing")


def test_only_files_of_the_page_are_read(page, tmp_path_factory, picture_file):
    secret = tmp_path_factory.mktemp("others") / "secret.txt"
    secret.write_text("a secret")
    httpx = pytest.importorskip("httpx")
    with httpx.Client(base_url=page(megabytes=1)) as client:
        for path in (
            secret,
            "/etc/passwd",
            "pyproject.toml",
            f"/tmp/../{secret}",
            "%2e%2e/%2e%2e/etc/passwd",
            "~/.bashrc",
        ):
            found = client.get(f"{API}/file={path}")
            assert found.status_code in (403, 404), path
            assert "a secret" not in found.text
        for path in (str(secret), "/etc/passwd", str(picture_file)):  # As a picture that was never sent.
            told = ask(client, "picture", {"path": path, "meta": {"_type": "gradio.FileData"}}, "splats", "fast")
            assert told["output"]["error"] is None, path  # Refused before our code, whose errors are sentences.
            assert not told["success"], path
            assert "a secret" not in json.dumps(told)
        assert client.post(f"{API}/upload", files={"files": ("a.png", b"x" * 2_000_000)}).status_code == 413
        assert (
            client.post(f"{API}/upload", files={"files": ("../../a.png", picture_file.read_bytes())}).status_code == 200
        )
        told = ask(client, "sentence", "x" * 501, "splats", "fast")
        assert "at most 500 characters" in told["output"]["error"]


def test_the_queue_has_an_end(page, tmp_path, monkeypatch):
    """One runs, one waits, the third is refused."""
    monkeypatch.setattr(visits, "COMMAND", (sys.executable, "-c", "import time; time.sleep(60)"))
    with pytest.importorskip("httpx").Client(base_url=page(waiting=1)) as client:
        assert join(client, "sentence", "a mug", "splats", "fast", session="a").status_code == 200
        wait_until(lambda: list(tmp_path.rglob("said.txt")))
        assert join(client, "sentence", "a mug", "splats", "fast", session="b").status_code == 200
        refused = join(client, "sentence", "a mug", "splats", "fast", session="c")
        assert refused.status_code == 503
        assert "full" in refused.text


@pytest.mark.nightly
@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_a_picture_becomes_a_mesh_in_a_browser(page, picture_file, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=[*SOFTWARE, "--no-sandbox"])
        tab, asked = browser.new_page(), []
        tab.set_default_timeout(120_000)
        tab.on("request", lambda request: asked.append(request.url))
        address = page()
        tab.goto(address)
        tab.set_input_files("input[type=file]", picture_file)
        tab.get_by_label("a textured mesh").check()
        tab.get_by_label("best").check()
        tab.get_by_role("button", name="Make it").first.click()
        tab.get_by_text("starting").wait_for()
        tab.get_by_text("done,").wait_for()
        with tab.expect_download() as download:
            tab.locator("a[download='model.glb']").last.click()
        mesh = trimesh.load(download.value.path(), file_type="glb", force="mesh")
        assert len(mesh.faces) > 50
        assert mesh.visual.uv is not None
        assert len(list(tmp_path.rglob("model.glb"))) == 1
        wait_until(
            lambda: np.std(Image.open(BytesIO(tab.locator("canvas").screenshot())).convert("L")) > 5
        )  # It is shown.
        tab.close()  # Who leaves takes the files along.
        wait_until(lambda: not list(tmp_path.rglob("model.glb")))
        browser.close()
        assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
