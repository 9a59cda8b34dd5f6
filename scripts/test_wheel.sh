#!/usr/bin/env bash
# Builds the source distribution and the wheel from it, installs the wheel in an empty environment, and runs it in another folder.
# usage: scripts/test_wheel.sh [FOLDER, by default a temporary one]
set -euo pipefail
source=$(cd "$(dirname "$0")/.." && pwd)
place=${1:-$(mktemp -d)}
python3 -m venv "$place/env"
cd "$place"
env/bin/pip install --quiet build
env/bin/python -m build --outdir dist "$source" > build.log
ls -l --block-size=K dist
env/bin/pip install --quiet -c "$source/constraints.txt" dist/*.whl
env/bin/hash3d --version
env/bin/hash3d generate zero123_gs --image "$source/examples/pictures/mushroom.png" --steps "${STEPS:-300}" --out run
du -sh env
