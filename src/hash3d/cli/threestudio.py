"""`hash3d threestudio install PATH`."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from hash3d.files import write_text

from .parsing import parse_options
from .streams import say

EXTENSION = '''"""Feature reuse, by `hash3d threestudio install`: guidances and data modules named `hash3d-...`."""

import threestudio
from hash3d.threestudio import register

register(threestudio)
'''
SYSTEMS = {"zero123": "zero123", "stable-zero123": "stable-zero123", "dreamfusion-sd": "stable-diffusion"}
"""threestudio's configurations of which there is one with reuse, and their guidances."""


@dataclass(frozen=True, kw_only=True)
class Threestudio:
    """Let a checkout of threestudio reuse features: writes custom/threestudio-hash3d, and no file of its own."""

    action: tyro.conf.Positional[Literal["install"]]
    """install: write the folder, or write it anew."""
    path: tyro.conf.Positional[Path]
    """threestudio's folder, with launch.py."""


def main(arguments: list[str]) -> int:
    """Write the folder. Returns the exit code."""
    options = parse_options(Threestudio, "threestudio", arguments)
    path = options.path
    if not ((path / "launch.py").is_file() and (path / "threestudio/__init__.py").is_file()):
        raise ValueError(f"Expected a checkout of threestudio, but {path} has no launch.py and threestudio/.")
    folder = path / "custom/threestudio-hash3d"
    write_text(folder / "__init__.py", EXTENSION)
    for name, guidance in SYSTEMS.items():
        source = path / f"configs/{name}.yaml"
        if source.is_file():
            text = source.read_text()
            text = re.sub(r'^(data_type: ")(?!hash3d-)', r"\1hash3d-", text, flags=re.MULTILINE)
            text = text.replace(f'guidance_type: "{guidance}-guidance"', f'guidance_type: "hash3d-{guidance}-guidance"')
            write_text(folder / f"configs/{name}.yaml", re.sub(r'^name: "', 'name: "hash3d-', text))
            say(f"python launch.py --config {(folder / f'configs/{name}.yaml').relative_to(path)} --train")
    return 0
