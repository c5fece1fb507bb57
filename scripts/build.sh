#!/usr/bin/env bash
# Sets up, configures the preset `release` and builds it: everything, or only
# the targets given.
#
#   scripts/build.sh [TARGET...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/setup.sh
cmake --preset release -DLIBTORCH_ROOT="$PWD/build/libtorch"

# A source that sees all of ATen takes up to 1.5 GB to compile.
jobs=$(nproc)
memory_kb=$(sed -n 's/^MemAvailable: *\([0-9]*\) kB/\1/p' /proc/meminfo)
by_memory=$(( ${memory_kb:-4000000} / 1500000 ))
if (( by_memory < jobs )); then jobs=$(( by_memory > 1 ? by_memory : 1 )); fi

targets=()
if (( $# > 0 )); then targets=(--target "$@"); fi
cmake --build --preset release --parallel "$jobs" "${targets[@]}"
