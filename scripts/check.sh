#!/bin/bash
# Everything that a change must pass. The import law is one of
# the tests. Arguments are targets of make that continuous integration adds, because
# they take too long for each change.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

# part NAME COMMAND... runs a part and prints how long it took.
part() {
	local name=$1 start
	start=$(now_ms)
	shift
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

# last NAME runs one of the last parts: "clients", or a target of make.
last() {
	case $1 in
	clients) part "generated clients, schemathesis" clients ;;
	*) part "make $1" make "$1" ;;
	esac
}

# last_parts NAME... runs the last parts, two at a time because each uses about one
# CPU. The name of its part comes before each line.
last_parts() {
	# shellcheck disable=SC2016 # the inner shell is to expand it
	printf '%s\n' "$@" | xargs -n 1 -P 2 bash -c 'set -o pipefail; scripts/check.sh --last "$0" 2>&1 | sed -u "s/^/$0: /"'
}

if [ "${1:-}" = --last ]; then
	last "$2"
	exit
fi
began=$(now_ms)
part "source" scripts/lint.sh
# "go test" need not vet again, for each set of build flags, what "go vet" has passed.
export GOFLAGS="${GOFLAGS:+$GOFLAGS }-vet=off"
# The packages that need no privileges at all are tested without them in "make test".
part "tests that skip themselves" scripts/test-fast.sh --skipping
part "tests" make test
if [ $# = 0 ]; then
	last clients
else
	part "$* and clients" last_parts "$1" clients "${@:2}"
fi
say "=== check: passed in $(since "$began")"
