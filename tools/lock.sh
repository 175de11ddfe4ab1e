#!/usr/bin/env bash
# Writes the locks from pyproject.toml: `tools/lock.sh PYTHON [options of uv pip compile]`.
#   requirements.lock          everything: the product, and what it is developed and built with
#   requirements-runtime.lock  the part of it that the product runs on, for the image
#   requirements-build.lock    the part of it that builds the product's wheel
# They hold hashes and no addresses, so they install from whatever registry a machine is set up with.
set -euo pipefail

python=$1
shift
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/venv"
"$scratch/venv/bin/python" -m pip install --quiet --disable-pip-version-check uv
compile() {
    local lock=$1
    shift
    "$scratch/venv/bin/uv" pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --custom-compile-command "make lock" --quiet -o "$lock" "$@"
}
compile requirements.lock pyproject.toml --group dev "$@"
# The parts take the versions of the whole, so these resolve to the same whatever has been released since.
compile requirements-runtime.lock pyproject.toml --constraint requirements.lock
compile requirements-build.lock --group build --constraint requirements.lock
