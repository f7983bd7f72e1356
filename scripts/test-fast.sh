#!/bin/bash
# Runs every test that needs no root, no VM and no database. Arguments are
# passed to "go test".
#
# Root runs the tests in a user namespace without privileges, so that the same
# tests run for everyone, and nothing on the machine is changed.
#
# With --skipping first it runs only the packages in which other tests need more, to see
# that those skip themselves. "make test" runs all other packages without privileges.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
. scripts/suites.sh
use_go
unset WRENN_REQUIRE WRENN_TEST_DATABASE_URL
export CGO_ENABLED=0 # with -trimpath, the packages are those that "make build" has compiled
flags=(-short -timeout=10m -trimpath)
[ -z "$unprivileged" ] || flags+=(-exec "$unprivileged")
packages=(./...)
if [ "${1:-}" = --skipping ]; then
	shift
	mapfile -t packages < <(packages_of "$with_vms" "$privileged")
	flags+=(-skip '^TestCore') # of internal/host, which "make test" runs in the same way
fi
go test "${flags[@]}" "$@" "${packages[@]}" | { grep -v '\[no test files\]$' || true; }
