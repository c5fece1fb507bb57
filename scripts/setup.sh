#!/usr/bin/env bash
# Installs what the build needs and is missing: Debian/Ubuntu packages, and
# libtorch from the PyPI wheel in a virtual environment under build/. Safe to
# run again; does nothing when all is there.
#
#   scripts/setup.sh                    set up; progress on stderr
#   scripts/setup.sh --print-libtorch   the same, then libtorch's folder on
#                                       stdout
#
# Environment:
#   LIBTORCH_ROOT   an own libtorch (the folder with include/ and lib/), used
#                   instead of the wheel
#
# Afterwards build/libtorch is a link to libtorch; CMake looks there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly torch_version=2.11.0
# Without a GPU these two are all that the CUDA wheel's torch_cpu refers to;
# leaving the rest out saves 3.4 GB.
readonly cuda_runtime=(nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85)
readonly cuda_headers=nvidia-cuda-crt==13.0.88  # included by the runtime's own
readonly venv=build/venv
readonly link=build/libtorch

say() { echo "setup: $*" >&2; }
die() { say "error: $*"; exit 1; }

# True if the dotted version $1 is at least $2.
at_least() { [[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]; }

installed() {
  dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q ' installed$'
}

# The Debian packages that are missing. A tool that is on the path from
# somewhere else serves as well.
missing_packages() {
  command -v g++ >/dev/null || echo g++
  command -v cmake >/dev/null || echo cmake
  command -v ninja >/dev/null || echo ninja-build
  command -v ccache >/dev/null || echo ccache
  command -v pkg-config >/dev/null || echo pkg-config
  command -v git >/dev/null || echo git
  command -v python3 >/dev/null || echo python3
  python3 -c 'import venv, ensurepip' 2>/dev/null || echo python3-venv
  local package
  for package in libyaml-cpp-dev libcli11-dev libspdlog-dev libfmt-dev catch2 \
                 nlohmann-json3-dev libpcre2-dev libsentencepiece-dev; do
    installed "$package" || echo "$package"
  done
}

install_packages() {
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    say "no apt here: the packages of third_party/README.md are taken as given"
    return
  fi
  local missing
  mapfile -t missing < <(missing_packages)
  if (( ${#missing[@]} == 0 )); then
    say "system packages: all there"
    return
  fi
  local as_root=()
  if (( EUID != 0 )); then
    if ! command -v sudo >/dev/null; then
      die "missing packages, and this user is not root. Have them installed:
  apt-get install --no-install-recommends ${missing[*]}"
    fi
    as_root=(sudo)
  fi
  say "system packages: installing ${missing[*]}"
  local install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get
                 install -y -q --no-install-recommends "${missing[@]}")
  # The package lists of a fresh container are empty, an old machine's stale.
  if ! "${install[@]}" >build/apt.log 2>&1; then
    "${as_root[@]}" apt-get update -q >>build/apt.log 2>&1 || true
    if ! "${install[@]}" >>build/apt.log 2>&1; then
      tail -n 5 build/apt.log >&2
      die "apt-get failed (build/apt.log has all of it). Install by hand:
  apt-get install --no-install-recommends ${missing[*]}"
    fi
  fi
}

check_tools() {
  local gxx cmake
  gxx=$(g++ -dumpfullversion -dumpversion) || die "g++ was not found"
  cmake=$(cmake --version | sed -n 's/^cmake version //p') ||
    die "cmake was not found"
  at_least "$gxx" 12 || say "warning: g++ is $gxx; 12 or newer is needed" \
    "(set CXX to another compiler)"
  at_least "$cmake" 3.25 || die "cmake is $cmake; 3.25 or newer is needed"
}

is_libtorch() {
  [[ -f $1/include/ATen/ATen.h && -f $1/lib/libtorch_cpu.so ]]
}

# site-packages of the virtual environment; found by path, since importing
# torch would need more packages than we install.
site_packages() {
  "$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
}

# The version of a completely installed wheel (pip writes RECORD last).
installed_torch() {
  local site=$1 version
  version=$(sed -n "s/^__version__ = '\(.*\)'/\1/p" \
              "$site/torch/version.py" 2>/dev/null) || return 0
  if is_libtorch "$site/torch" &&
     compgen -G "$site/torch-${version%%+*}*.dist-info/RECORD" >/dev/null; then
    echo "$version"
  fi
}

has_gpu() {
  [[ -e /dev/nvidia0 ]] || nvidia-smi -L >/dev/null 2>&1
}

# True if the wheel's shared libraries find what they refer to.
wheel_complete() {
  local site=$1 version=$2
  case $version in
    "$torch_version"+cpu) return 0 ;;  # needs nothing more
    "$torch_version" | "$torch_version"+*) ;;
    *) return 1 ;;
  esac
  compgen -G "$site/nvidia/*/lib/libcudart.so.*" >/dev/null &&
    compgen -G "$site/nvidia/*/lib/libcupti.so.*" >/dev/null &&
    compgen -G "$site/nvidia/*/include/crt/host_defines.h" >/dev/null ||
    return 1
  ! has_gpu || compgen -G "$site/nvidia/cudnn/lib/libcudnn.so.*" >/dev/null
}

pip_install() {
  if ! "$venv/bin/python" -m pip install --disable-pip-version-check \
         --progress-bar off "$@" >build/pip.log 2>&1; then
    tail -n 5 build/pip.log >&2
    die "pip install $* failed (build/pip.log has all of it)"
  fi
}

install_torch() {
  if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    say "virtual environment: making $venv"
    python3 -m venv --clear "$venv" >&2 ||
      die "python3 -m venv failed (Debian package python3-venv)"
  fi
  local site version
  site=$(site_packages)
  version=$(installed_torch "$site")
  if ! wheel_complete "$site" "$version"; then
    if has_gpu; then
      say "libtorch: installing torch==$torch_version for CUDA, about 5 GB"
      pip_install "torch==$torch_version" "$cuda_headers"
    else
      say "libtorch: installing torch==$torch_version without its CUDA" \
          "packages (no NVIDIA GPU here), about 1.3 GB"
      pip_install --no-deps "torch==$torch_version"
      [[ $(installed_torch "$site") == *+cpu ]] ||
        pip_install --no-deps "${cuda_runtime[@]}" "$cuda_headers"
    fi
    version=$(installed_torch "$site")
    wheel_complete "$site" "$version" ||
      die "torch==$torch_version is still not complete in $venv;" \
          "remove that folder and run this again"
  fi
  say "libtorch: $version"
  ln -sfn "$(realpath --relative-to=build "$site/torch")" "$link"
}

main() {
  case ${1-} in
    '' | --print-libtorch) ;;
    *) die "unknown argument '$1' (only --print-libtorch is known)" ;;
  esac
  mkdir -p build
  install_packages
  check_tools
  if [[ -n ${LIBTORCH_ROOT-} ]]; then
    is_libtorch "$LIBTORCH_ROOT" ||
      die "LIBTORCH_ROOT=$LIBTORCH_ROOT has no include/ATen/ATen.h and" \
          "lib/libtorch_cpu.so"
    say "libtorch: $LIBTORCH_ROOT (from LIBTORCH_ROOT)"
    ln -sfn "$(realpath "$LIBTORCH_ROOT")" "$link"
  else
    install_torch
  fi
  if [[ ${1-} == --print-libtorch ]]; then realpath "$link"; fi
}

main "$@"
