"""`hash3d evaluate` and `export` of a run."""

import json
import os
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from hash3d.cli.evaluate import format_cell
from hash3d.evaluation import perceptual

from .conftest import assert_refused


def test_generate_evaluate_export(generate, hash3d, tmp_path, monkeypatch):
    code, out, err = generate("--cache.reuse-probability", "0.5", "--pose", "xl", "--elevation", "5")
    assert code == 0
    assert err.count("pose convention: xl (stated by the option)") == 1
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["pose_variant"], summary["pose_reason"]) == ("xl", "stated by the option")
    for name in ("model.ply", "preview.png", "turntable.mp4"):
        assert str(tmp_path / "run" / name) in out
        assert (tmp_path / "run" / name).stat().st_size > 0
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert recipe["cache"]["reuse_probability"] == 0.5
    truth = tmp_path / "truth"
    truth.mkdir()
    views = [{"file": f"{n}.png", "elevation_deg": 0, "azimuth_deg": 90.0 * n} for n in range(2)]
    for view in views:
        picture = Image.new("RGBA", (64, 64), (200, 30, 30, 255))
        picture.paste((20, 30, 30, 255), (16, 16, 48, 48))
        picture.save(truth / view["file"])
    camera = {"distance": 1.5, "fov_y_deg": 49.1, "object_radius": 0.5, "size": 64}
    described = {**camera, "input": {"file": "0.png", "elevation_deg": 5, "azimuth_deg": 0}, "views": views}
    (truth / "views.json").write_text(json.dumps(described))
    code, out, err = hash3d("evaluate", tmp_path / "run", "--truth", truth)
    assert code == 0, err
    assert "PSNR" in out
    mean = json.loads((tmp_path / "run" / "evaluation.json").read_text())["mean"]
    assert set(mean) == {"psnr", "ssim", "ssim_padded", "sharpness"}
    assert out.count("no alpha channel") == 1
    assert "elevation 5" not in out
    assert out.splitlines()[0].split() == ["azimuth", "elevation", "PSNR", "SSIM", "SSIM,", "padded", "sharpness"]
    described["input"]["elevation_deg"] = 30
    (truth / "views.json").write_text(json.dumps(described))
    code, told, err = hash3d("evaluate", tmp_path / "run", "--truth", truth)
    assert "its image from elevation 5, the true views from 30" in " ".join(told.split())
    assert_refused(hash3d("evaluate", tmp_path / "run"), "Expected --truth FOLDER, or CLIP among the --metrics")
    monkeypatch.setattr(perceptual, "load_clip", lambda *_: (Mock(), None))
    monkeypatch.setattr(
        perceptual, "Clip", lambda model, tokenizer, reference: lambda image, _: float(reference.mean())
    )
    code, out, err = hash3d("evaluate", tmp_path / "run", "--metrics", "clip_b32")
    assert code == 0, err
    evaluation = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert [row["azimuth"] for row in evaluation["views"]] == [45.0 * place for place in range(8)]
    color, alpha = np.split(np.asarray(Image.open(tmp_path / "run" / "input.png")) / 255.0, [3], axis=-1)
    assert evaluation["mean"] == {"clip_b32": pytest.approx((color * alpha + 1.0 - alpha).mean(), abs=1e-6)}
    assert "CLIP B/32" in out
    code, out, err = hash3d("export", tmp_path / "run", "--format", "ply")
    assert code == 0, err
    assert os.path.getsize(out.strip()) > 0


def test_a_run_without_its_image_or_its_model_is_told(generate, hash3d, tmp_path):
    assert generate()[0] == 0
    (tmp_path / "run" / "input.png").rename(tmp_path / "moved.png")
    assert_refused(hash3d("evaluate", tmp_path / "run", "--truth", tmp_path), "there is no file .*input.png")
    (tmp_path / "run" / "model.ply").unlink()
    message = "Expected a finished run in .*, but it has no model.ply"
    assert_refused(hash3d("export", tmp_path / "run", "--format", "sheet"), message)
    assert_refused(hash3d("evaluate", tmp_path / "run", "--truth", tmp_path), message)


@pytest.mark.parametrize(("value", "cell"), [(12.3456, "12.35"), ("-", "-")])
def test_a_cell_is_a_number_or_a_word(value, cell):
    assert format_cell(value, ".2f") == cell
