#!/bin/bash
# Pauses the sandboxes of the server that quickstart started and stops it. It
# works without a build: a running server is its own program. Arguments are
# passed to "wrenn down".
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
. scripts/look.sh
data=${WRENN_DATA_DIR:-/var/lib/wrenn}

if [ -x bin/wrenn ]; then
	wrenn=$PWD/bin/wrenn
elif pid=$(our_server); then
	wrenn=/proc/$pid/exe
elif ! wrenn=$(command -v wrenn); then
	say "no server uses $data"
	exit 0
fi
as_root bash -c 'exec "$@"' - "$wrenn" down --data-dir "$data" "$@"
