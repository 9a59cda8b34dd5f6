#!/usr/bin/env bash
# Runs the tests of the two verbs and the demo with the oldest versions that pyproject.toml accepts.
# usage: scripts/test_oldest.sh [FOLDER of the environment, by default a temporary one]
set -euo pipefail
cd "$(dirname "$0")/.."
env=${1:-$(mktemp -d)}
python3 -m venv "$env"
oldest=$("$env"/bin/python - <<'PY'
import tomllib

project = tomllib.load(open("pyproject.toml", "rb"))["project"]
print(*(each.replace(">=", "==") for each in project["dependencies"]))
PY
)
"$env"/bin/pip install --quiet $oldest pytest beartype hypothesis
"$env"/bin/pip install --quiet --no-deps -e .
"$env"/bin/pip list | grep -iE "^(torch|diffusers|transformers|numpy|tyro|jaxtyping) "
"$env"/bin/python -m pytest tests/unet tests/cache
"$env"/bin/hash3d generate zero123_gs --image examples/pictures/mushroom.png --out "$(mktemp -d)/oldest"
