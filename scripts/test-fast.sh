#!/bin/bash
# Runs every test that needs no root, no VM and no database. Arguments are
# passed to "go test".
#
# Root runs the tests in a user namespace without privileges, so that the same
# tests run for everyone, and nothing on the machine is changed.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
use_go
unset WRENN_REQUIRE WRENN_TEST_DATABASE_URL
export CGO_ENABLED=0 # with -trimpath, the packages are those that "make build" has compiled
flags=(-short -timeout=10m -trimpath)
if [ "$(id -u)" = 0 ]; then
	flags+=(-exec "unshare --user --map-user=65534 --map-group=65534")
fi
go test "${flags[@]}" "$@" ./... | { grep -v '\[no test files\]$' || true; }
