#!/usr/bin/env bash
# Writes deploy/.env with random secrets for a first `make up`, unless there is one: `tools/compose_env.sh [FILE]`.
# It is for this machine alone, so staging: production wants an https address, which only its operator knows.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
file=${1:-deploy/.env}
[ -e "$file" ] && exit 0

random() {
    head -c "$1" /dev/urandom
}

# What mktemp makes is its owner's alone.
draft=$(mktemp "$file.XXXXXX")
trap 'rm -f "$draft"' EXIT
{
    echo "# Written by tools/compose_env.sh; deploy/env.example says what else may stand here."
    echo "# Keep it with the backups: without BWENGE_SECRET_KEY every session, link and database password is lost."
    echo "BWENGE_ENV=staging"
    echo "BWENGE_PUBLIC_URL=http://127.0.0.1:8000"
    echo "BWENGE_SECRET_KEY=$(random 48 | base64 -w 0)"
    echo "POSTGRES_PASSWORD=$(random 32 | od -An -tx1 | tr -d ' \n')"
    echo "REDIS_PASSWORD=$(random 32 | od -An -tx1 | tr -d ' \n')"
} > "$draft"
# Linked into place: two that run at once leave one file, and a half-written one is never seen.
ln "$draft" "$file" 2> /dev/null || exit 0
echo "Made $file with secrets of this machine's own."
