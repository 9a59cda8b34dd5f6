"""`hash3d completion`: what the shell offers."""

import shutil
import subprocess

import pytest


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_bash_offers_commands_systems_and_their_options(hash3d, tmp_path):
    code, script, _ = hash3d("completion", "bash")
    assert code == 0
    (tmp_path / "hash3d.sh").write_text(script)
    for line, expected in {
        "hash3d gen": "generate",
        "hash3d generate magic": "magic123 magic3d",
        "hash3d generate sds_gs --prom": "--prompt",
        "hash3d generate sds_gs --imag": "",
        "hash3d batch --work": "--workers",
        "hash3d web --mega": "--megabytes",
    }.items():
        words = line.split()
        ask = f"source {tmp_path}/hash3d.sh; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _tyro_hash3d; "
        told = subprocess.run(["bash", "-c", ask + 'echo "${COMPREPLY[@]}"'], capture_output=True, text=True)
        assert told.stdout.strip() == expected, told.stderr
