#!/bin/bash
# Sets up this machine, prepares images, and runs every test against real VMs
# and a real database. Packages that start no VM are tested with the race
# detector, except for the simulation. The last line is
# "N passed, N failed, N skipped".
#
# WRENN_TEST_IMAGES names the directory of guest kernel and templates that
# all tests share; it must be called "images". Its default is that of an
# installed Wrenn, so that they are built once on a machine.
# WRENN_TEST_FLAGS is added to the flags of "go test".
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

# default_images prints /var/lib/wrenn/images, or a place in the user's cache
# where that can be neither used nor made.
default_images() {
	if as_root mkdir -p /var/lib/wrenn/images 2>/dev/null; then
		say /var/lib/wrenn/images
	else
		say "${XDG_CACHE_HOME:-$HOME/.cache}/wrenn/images"
	fi
}

scripts/setup.sh --test
use_go
export WRENN_TEST_IMAGES=${WRENN_TEST_IMAGES:-$(default_images)}
[ "$(basename "$WRENN_TEST_IMAGES")" = images ] || die "WRENN_TEST_IMAGES must end in /images, not $WRENN_TEST_IMAGES"
# A missing VM, database or privilege fails the tests; they do not skip.
export WRENN_REQUIRE=vm,pg,root,compat

say "== build"
make build
export WRENN_BIN=$PWD/bin/wrenn # several suites would build it again, at the same time
(cd tools && go build -o ../bin/testsum ./testsum)
say "== images in $WRENN_TEST_IMAGES"
as_root bin/wrenn image build --data-dir "$(dirname "$WRENN_TEST_IMAGES")" minimal code-interpreter-v1
WRENN_DATA_DIR=$(dirname "$WRENN_TEST_IMAGES") scripts/runsc.sh

say "== clients of E2B"
WRENN_COMPAT=$(scripts/compat.sh --install)
export WRENN_COMPAT

say "== tests"
flags=(-json -count=1 -timeout=50m -trimpath)
if [ "$(id -u)" != 0 ]; then
	# Built as the user, run as root.
	flags+=(-exec "sudo -E env PATH=$PATH")
fi
read -ra extra <<<"${WRENN_TEST_FLAGS:-}"
# These packages must have a passing test: a suite that can be empty must not be
# green.
suites=internal/host,internal/host/vmm/qemu,internal/host/vmm/gvisor,internal/host/network,internal/host/disk,internal/host/datafs,internal/host/image
suites+=,internal/control/postgres,internal/pgserver,internal/guest/process,test/e2e,test/runtimes,test/upgrade,test/docs
# The race detector slows the host's side of a VM's life too much for the
# deadlines that guests and VMMs have.
with_vms='internal/host/vmm/(jail|qemu|gvisor)|test/runtimes|test/upgrade|test/docs'
# A timer that starts a goroutine in a bubble of testing/synctest can crash the
# race detector (golang.org/issue/78156). The simulation has millions of them.
with_bubbles='internal/control/sim'
mapfile -t packages < <(go list ./...)
mapfile -t plain < <(printf '%s\n' "${packages[@]}" | grep -E "/($with_vms|$with_bubbles)$")
mapfile -t raced < <(printf '%s\n' "${packages[@]}" | grep -vE "/(internal/host|test/e2e|$with_vms|$with_bubbles)$")

work=$(mktemp -d)
summary=
trap 'kill $summary 2>/dev/null || true; rm -rf "$work"' EXIT
queue=() pipes=()

# job NAME ARGS... appends a run of "go test" to the queue. Its events go into a
# pipe of its own. The race detector needs cgo. Other packages are those that "make
# build" has compiled.
job() {
	local pipe=$work/$1 build=(env CGO_ENABLED=0 go test)
	shift
	if [[ " $* " == *' -race '* ]]; then build=(env CGO_ENABLED=1 go test); fi
	mkfifo "$pipe"
	pipes+=("$pipe")
	queue+=("$(printf '%q ' "${build[@]}" "$@") >$pipe")
}

# Two jobs run at a time, because most tests with VMs wait for one virtual CPU. The
# longest are first, so that no CPU is idle at the end. The tests of the host are
# three jobs, because each of them runs alone in its process.
job e2e "${flags[@]}" "${extra[@]}" ./test/e2e
job raced "${flags[@]}" -p=1 -race "${extra[@]}" "${raced[@]}"
if [[ " ${extra[*]} " == *' -run'* ]]; then
	job host "${flags[@]}" "${extra[@]}" ./internal/host
else
	# The host core on fake VMs needs none, and has a run of its own under the detector.
	core='^TestCore' first='^Test[A-F]' second='^Test[G-O]'
	job host-first "${flags[@]}" "${extra[@]}" -run "$first" -skip "$core" ./internal/host
	job host-second "${flags[@]}" "${extra[@]}" -run "$second" ./internal/host
	job host-rest "${flags[@]}" "${extra[@]}" -skip "$core|$first|$second" ./internal/host
	job core "${flags[@]}" -race "${extra[@]}" -run "$core" ./internal/host
fi
job plain "${flags[@]}" -p=1 "${extra[@]}" "${plain[@]}"
job tools -C tools "${flags[@]}" ./...
job benchplot -C tools/benchplot "${flags[@]}" ./...

# From here on each pipe has a reader and a writer, so that no job and no summary waits in
# open(2) for the other.
writers=() readers=()
for pipe in "${pipes[@]}"; do
	exec {writer}<>"$pipe"
	exec {reader}<"$pipe"
	writers+=("$writer")
	readers+=("$reader")
done

# release FD... closes descriptors.
release() {
	local fd
	for fd; do exec {fd}>&-; done
}

# summarize runs the summary. If it dies, the output of the jobs is dropped, so that they
# end.
summarize() {
	local fd result=0
	release "${writers[@]}"
	bin/testsum -must "$suites" "${pipes[@]}" || result=$?
	for fd in "${readers[@]}"; do cat <&"$fd" >/dev/null & done
	wait
	return "$result"
}

summarize &
summary=$!
status=0
(
	release "${writers[@]}" "${readers[@]}"
	printf '%s\n' "${queue[@]}" | xargs -d '\n' -n 1 -P 2 bash -c
) || status=1
release "${writers[@]}" "${readers[@]}" # a job that was never started has an empty pipe
# A summary that is slower than all jobs waits for a writer of pipes that it has yet to open.
while [ -n "$(jobs -r)" ]; do
	for pipe in "${pipes[@]}"; do : <>"$pipe"; done
	sleep 0.1
done
wait "$summary" || status=1
summary=
exit "$status"
