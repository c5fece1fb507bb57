#!/usr/bin/env bash
# Sets up, builds, runs the tests (all but the labels slow and gpu). Arguments
# go to ctest, for example: scripts/test.sh -R safetensors
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/build.sh
exec ctest --preset release "$@"
