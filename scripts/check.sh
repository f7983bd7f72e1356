#!/bin/bash
# Everything that a change must pass. The import law is one of
# the tests.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
began=$(now_ms)

# part NAME COMMAND... runs a part and prints how long it took.
part() {
	local name=$1 start
	shift
	start=$(now_ms)
	say "=== $name"
	"$@" || die "$name failed after $(since "$start")"
	say "=== $name: passed in $(since "$start")"
}

# clients runs scripts/clients.sh, which needs more than the tests do.
clients() {
	if command -v node >/dev/null && command -v npm >/dev/null && command -v python3 >/dev/null; then
		scripts/clients.sh
	else
		say "clients: NOT CHECKED. This machine lacks node, npm or python3."
	fi
}

part "source" scripts/lint.sh
part "tests without privileges" make test-fast
part "tests" make test
part "generated clients, schemathesis" clients
# Continuous integration adds parts that take too long for each change.
for extra; do part "make $extra" make "$extra"; done
say "=== check: passed in $(since "$began")"
