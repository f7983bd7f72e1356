#!/bin/bash
# Measures this build on this machine: starts a server of its own, with its
# own data and only the images shared, runs "wrenn bench" against it, and
# stops it. It measures both runtimes, runsc by its command line, and plain
# processes; it builds runsc if that is missing. The samples and their plot go to bench/DATE-ACCELERATION.json and
# .svg, also if a part failed; no other files remain.
#
# BENCH_RUNTIMES are the runtimes to measure ("gvisor microvm"). BENCH_N is the number of rounds (20), BENCH_BURST the number of creates in a
# burst (20), BENCH_POOL the number of warm clones of each runtime (8), BENCH_DENSITY the number
# of idle sandboxes alive at the same time (0 skips that), BENCH_DATA_FS=xfs
# puts the server's data on a file system that shares blocks, BENCH_PORT is the
# server's port (18089). WRENN_TEST_IMAGES is the directory of guest kernel and
# templates, as for scripts/test.sh. Arguments are passed to "wrenn bench".
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
scripts/setup.sh
images=${WRENN_TEST_IMAGES:-/var/lib/wrenn/images}
[ "$(basename "$images")" = images ] || die "WRENN_TEST_IMAGES must end in /images, not $images"
url=http://127.0.0.1:${BENCH_PORT:-18089}

data='' server='' results=''
finish() {
	local status=$?
	trap - EXIT
	# Found by its directory, because its start may have been interrupted.
	if [ -n "$server" ]; then as_root bin/wrenn down --data-dir "$data" >&2 || status=1; fi
	if [ "$status" != 0 ] && [ -s "$results/server.log" ]; then
		say "The end of the server's log:" >&2
		tail -n 20 "$results/server.log" >&2
	fi
	# This must fail if the server's file system is still mounted.
	[ -z "$data" ] || as_root rm -rf --one-file-system "$data" || status=1
	[ -z "$results" ] || rm -rf "$results"
	exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

as_root bin/wrenn image build --data-dir "$(dirname "$images")"
WRENN_DATA_DIR=$(dirname "$images") scripts/runsc.sh
results=$(mktemp -d)
data=$(as_root mktemp -d /var/tmp/wrenn-bench.XXXXXX)
as_root chmod 711 "$data" # VMs run as users of their own and pass through it
as_root ln -s "$images" "$data/images"

density=${BENCH_DENSITY:-0}
up=(--data-dir "$data" --listen "${url#http://}" --log-level warn)
read -ra runtimes <<<"${BENCH_RUNTIMES:-gvisor microvm}"
for runtime in "${runtimes[@]}"; do up+=(--pool "runtime=$runtime,size=${BENCH_POOL:-8}"); done
# Pools and bursts of both runtimes are promised more memory than they use. Idle
# sandboxes share most of theirs and hardly use a CPU.
overcommit=4
[ "$density" = 0 ] || overcommit=16 up+=(--cpu-overcommit 64)
up+=(--memory-overcommit "$overcommit")
[ -z "${BENCH_DATA_FS:-}" ] || up+=(--data-fs "$BENCH_DATA_FS")
# The sandboxes of the bursts write little of the disks that they are promised.
[ "${BENCH_DATA_FS:-}" != xfs ] || up+=(--data-fs-size 8G --disk-overcommit 32)

# In a session of its own, so that an interrupt here does not reach it before
# "wrenn down" does.
# shellcheck disable=SC2016 # the inner shell is to expand these
as_root bash -c 'exec setsid --wait bin/wrenn up "$@"' - "${up[@]}" \
	>"$results/server.log" 2>&1 </dev/null &
server=$!
until curl -fsS -m 2 -o /dev/null "$url/readyz" 2>/dev/null; do
	[ -d "/proc/$server" ] || die "the server did not start"
	sleep 0.1
done

# A run with failures has a report too.
failed=0
as_root bin/wrenn bench --url "$url" --data-dir "$data" --api-key-file "$data/api-key" --n "${BENCH_N:-20}" --burst "${BENCH_BURST:-20}" --density "$density" \
	--runtime "$(IFS=, && say "${runtimes[*]}")" \
	--out "$results/report.json" "$@" || failed=$?
[ -s "$results/report.json" ] || exit "$failed"
acceleration=$(sed -n 's/^  "acceleration": "\([a-z]*\)",$/\1/p' "$results/report.json")
name=bench/$(date -u +%Y-%m-%d)-$acceleration
cp "$results/report.json" "$name.json"
# The drawing library is not part of the product, so the plotter is a module of its own.
use_go
plot=$PWD/$name.svg report=$PWD/$name.json
(cd tools/benchplot && go run . "$report" "$plot")
say "samples in $name.json, plot in $name.svg"
[ "$failed" = 0 ] || exit "$failed"
