#!/usr/bin/env bash
# Brings what the tests run beside Python, from Debian's packages: `tools/system_packages.sh COMMAND=PACKAGE ...`.
# Where it cannot, it says which tests will be skipped for it; the tests skip themselves.
set -uo pipefail

missing=()
for wanted in "$@"; do
    command -v "${wanted%%=*}" > /dev/null || missing+=("${wanted#*=}")
done
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    as_root=(sudo -n)
fi
if command -v apt-get > /dev/null; then
    echo "Installing ${missing[*]} from Debian's packages for the tests ..."
    export DEBIAN_FRONTEND=noninteractive
    if "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null 2>&1; then
        exit 0
    fi
    "${as_root[@]}" apt-get update -qq > /dev/null 2>&1
    if "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null 2>&1; then
        exit 0
    fi
fi
echo "NOT INSTALLED: ${missing[*]}. The tests that need it are skipped; install it to run them."
