#!/bin/bash
# Runs the README's two commands on machines that have nothing: minimal Debian
# trees, each in mount, pid, network, cgroup, ipc and uts namespaces of its
# own, as root and as a user with sudo at a terminal. It needs root and leaves
# nothing. Under software emulation quickstart takes some 180 s of processor
# time for each tree; the tests take as long as they take outside.
#
#   FRESH_SUITES  Debian releases ("bookworm trixie")
#   FRESH_USERS   users that run the commands ("root user")
#   FRESH_PARTS   commands to run ("quickstart test"): "quickstart" is make
#                 quickstart, again, stop and uninstall; "test" is make test,
#                 run once for each release, by the first of the users; "qemu"
#                 is set-up where a QEMU is installed already (Debian 12 only)
#   FRESH_DIR     directory for trees and logs (a new one in /var/tmp); logs
#                 stay only in a directory that was given
#
# A tree holds the packages of mmdebstrap's variant minbase, and ca-certificates,
# git, make and sudo. The proxies, package mirrors and certificates that this host
# uses are read from its configuration and given to the tree. Go modules and
# Debian packages that are on this host already are not downloaded again. The second
# tree of a release gets the first one's build cache of Go.
#
# CI runs FRESH_SUITES=bookworm FRESH_PARTS=quickstart after "make test". It
# leaves out the tests, which it has just run, and the second release, for time.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
. scripts/lib.sh
. scripts/fresh/host.sh
[ "$(id -u)" = 0 ] || exec sudo --preserve-env="$(carried)" "$0" "$@"
export FRESH_SUITES=${FRESH_SUITES:-bookworm trixie} FRESH_USERS=${FRESH_USERS:-root user}
export FRESH_PARTS=${FRESH_PARTS:-quickstart test}
for program in mmdebstrap ip nft nsenter unshare git; do
	command -v "$program" >/dev/null || die "$program is missing; run scripts/setup.sh --test"
done

# shellcheck disable=SC2034 # scripts/fresh/host.sh uses it
work=${FRESH_DIR:-$(mktemp -d /var/tmp/wrenn-fresh.XXXXXX)}
mkdir -p "$work"
# shellcheck disable=SC2317 # the trap calls it
finish() {
	local status=$?
	trap - EXIT
	leave
	remove_trees "$work"
	rm -rf --one-file-system "$work"/builds-*
	[ -n "${FRESH_DIR:-}" ] || rm -rf --one-file-system "$work"
	exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

failed=0 passed=0
# one SUITE USER PARTS runs the parts in a tree of its own.
one() {
	local suite=$1 user=$2 parts=$3 tree=$work/$1-$2 log=$work/$1-$2.log began
	began=$(now_ms)
	say "== $suite, $user: $parts (log: $log)"
	make_tree "$suite" "$tree"
	# shellcheck disable=SC2317 # with_progress calls it
	run_parts() { enter "$tree" "$user" "$parts" >"$log" 2>&1; }
	if with_progress "$suite, $user" run_parts; then
		passed=$((passed + 1))
		say "   passed in $(since "$began")"
	else
		failed=$((failed + 1))
		say "   FAILED after $(since "$began"). The end of the log:"
		tail -n 60 "$log" | sed 's/^/   | /'
	fi
	grep -a '^fresh: ' "$log" | sed 's/^fresh: /   /' || true
	keep_builds "$suite" "$tree"
	remove_trees "$tree"
}

main() {
	local suite user parts tested
	for suite in $FRESH_SUITES; do
		tested=''
		for user in $FRESH_USERS; do
			parts=$FRESH_PARTS
			[ -z "$tested" ] || parts=${parts//test/}
			[ -z "${parts// /}" ] || one "$suite" "$user" "${parts% }"
			tested=yes
		done
	done
	say "$passed passed, $failed failed"
	[ "$failed" = 0 ]
}
main; exit # read as one line: the file may change while this runs
