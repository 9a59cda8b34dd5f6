#!/usr/bin/env bash
# Run the tests that need a CUDA device, and write docs/benchmarks/test_gpu.md: commit it. CI has no such device.
# Arguments are passed to pytest: with `-n 8` it takes 100 seconds.
set -euo pipefail
cd "$(dirname "$0")/.."
files=$(grep -rl --include='test_*.py' 'mark.gpu' tests)
status=0
# shellcheck disable=SC2086  # Names without spaces.
result=$(python3 -m pytest -m gpu -rA -p no:cacheprovider $files "$@" 2>&1 | tee /dev/stderr | grep -E '^(PASSED|FAILED|ERROR|SKIPPED)|passed|failed') || status=$?
mkdir -p docs/benchmarks
{
  echo "# Tests on a GPU"
  echo
  echo "\`scripts/test_gpu.sh\`, commit ${COMMIT:-$(git rev-parse --short HEAD)}, $(python3 -c 'import torch; print(torch.cuda.get_device_name(), "torch", torch.__version__)'), $(date -I)."
  echo
  echo '```'
  echo "$result"
  echo '```'
} > docs/benchmarks/test_gpu.md
exit "$status"
