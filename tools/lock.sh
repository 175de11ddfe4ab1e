#!/usr/bin/env bash
# Writes requirements.lock from pyproject.toml: `tools/lock.sh PYTHON [options of uv pip compile]`.
# The lock holds hashes and no addresses, so it installs from whatever registry a machine is set up with.
set -euo pipefail

python=$1
shift
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/venv"
"$scratch/venv/bin/python" -m pip install --quiet --disable-pip-version-check uv
"$scratch/venv/bin/uv" pip compile pyproject.toml --group dev --universal --python-version 3.11 \
    --generate-hashes --no-emit-index-url --custom-compile-command "make lock" --quiet \
    -o requirements.lock "$@"
