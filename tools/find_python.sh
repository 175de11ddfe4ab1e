#!/usr/bin/env bash
# Prints a Python that can run Bwenge OS: $PYTHON if it is set, else the first that fits on the PATH.
set -euo pipefail

fits() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3.14 python3}; do
    if fits "$candidate"; then
        command -v "$candidate"
        exit 0
    fi
done

{
    echo "Bwenge OS needs Python 3.11 or later."
    if [ -n "${PYTHON:-}" ]; then
        echo "PYTHON=$PYTHON is not one: $("$PYTHON" --version 2>&1 || true)"
    else
        echo "Found: $(python3 --version 2>/dev/null || echo 'no python3 on the PATH')."
        echo "Install one (for example: apt-get install python3.11 python3.11-venv), or name it: make PYTHON=/path/to/python3.11 run"
    fi
} >&2
exit 1
