#!/usr/bin/env bash
# From a fresh clone to a compressed model: sets up, builds, compresses the
# example model and prints before and after and where the report is.
# Arguments go to `autoglm compress`, for example: --set seed=1
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/build.sh autoglm
exec build/release/apps/autoglm/autoglm compress configs/quickstart.yaml \
  --force "$@"
