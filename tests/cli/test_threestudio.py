"""`hash3d threestudio install`: a folder in its `custom/`, and nothing else."""

import pytest

from hash3d.cli import run_command

CONFIG = 'name: "zero123"\ndata_type: "single-image-datamodule"\nsystem:\n  guidance_type: "zero123-guidance"\n'


def test_it_writes_an_extension_and_configurations(tmp_path, capsys):
    (tmp_path / "threestudio").mkdir()
    (tmp_path / "configs").mkdir()
    for name in ("launch.py", "threestudio/__init__.py"):
        (tmp_path / name).write_text("")
    (tmp_path / "configs/zero123.yaml").write_text(CONFIG)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for _ in range(2):  # Again: anew.
        assert run_command(["threestudio", "install", str(tmp_path)]) == 0
    assert {path: path.read_bytes() for path in before} == before
    folder = tmp_path / "custom/threestudio-hash3d"
    written = (folder / "configs/zero123.yaml").read_text()
    assert written == CONFIG.replace('"zero', '"hash3d-zero').replace('"single', '"hash3d-single')
    compile((folder / "__init__.py").read_text(), "extension", "exec")
    assert "--config custom/threestudio-hash3d/configs/zero123.yaml --train" in capsys.readouterr().out


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Expected a checkout of threestudio"):
        run_command(["threestudio", "install", str(tmp_path)])
    assert not list(tmp_path.iterdir())
