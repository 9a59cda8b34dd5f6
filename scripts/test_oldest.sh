#!/usr/bin/env bash
# Runs the tests of the two verbs, of folders of others, and the demo with the oldest versions that pyproject.toml accepts.
# usage: [TORCH=VERSION] scripts/test_oldest.sh [FOLDER of the environment, by default a temporary one]
# TORCH stands in where the oldest torch cannot be had.
set -euo pipefail
cd "$(dirname "$0")/.."
env=${1:-$(mktemp -d)}
python3 -m venv "$env"
oldest=$("$env"/bin/python - <<'PY'
import os
import tomllib

project = tomllib.load(open("pyproject.toml", "rb"))["project"]
oldest = dict(each.split(">=") for each in project["dependencies"])
oldest["torch"] = os.environ.get("TORCH", oldest["torch"])
print(*(f"{name}=={version}" for name, version in oldest.items()))
PY
)
# shellcheck disable=SC2086  # Names without spaces.
"$env"/bin/pip install --quiet $oldest pytest beartype hypothesis
"$env"/bin/pip install --quiet --no-deps -e .
echo "$oldest"
"$env"/bin/python -m pytest tests/unet tests/cache tests/test_model_files.py tests/representations/test_shap_e.py tests/faults/test_priors.py
"$env"/bin/hash3d generate zero123_gs --image examples/pictures/mushroom.png --out "$(mktemp -d)/oldest"
