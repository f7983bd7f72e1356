#!/bin/bash
# Sets up this machine, prepares images, and runs every test against real VMs
# and a real database. Packages that start no VM are tested with the race
# detector, except for the simulation, and without privileges if they need none.
# The last line is "N passed, N failed, N skipped".
#
# WRENN_TEST_IMAGES names the directory of guest kernel and templates that
# all tests share; it must be called "images". Its default is that of an
# installed Wrenn, so that they are built once on a machine.
# WRENN_TEST_FLAGS is added to the flags of "go test".
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
. scripts/suites.sh

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
# Several suites would build these again, at the same time.
export WRENN_BIN=$PWD/bin/wrenn WRENN_TEST_GUEST=$PWD/bin/wrenn-guest WRENN_TEST_JAIL=$PWD/bin/wrenn-jail
(cd tools && CGO_ENABLED=0 go build -trimpath -o ../bin/testsum ./testsum)
export WRENN_COMPAT=$PWD/.cache/compat

say "== tests"
# The race detector lets a program sleep for a second before it ends.
export GORACE="${GORACE:-atexit_sleep_ms=20}"
flags=(-json -count=1 -timeout=50m -trimpath)
user=("${flags[@]}") # of tests without privileges
[ -z "$unprivileged" ] || user+=(-exec "$unprivileged")
if [ "$(id -u)" != 0 ]; then
	# Built as the user, run as root.
	flags+=(-exec "sudo -E env PATH=$PATH")
fi
read -ra extra <<<"${WRENN_TEST_FLAGS:-}"
# These packages must have a passing test: a suite that can be empty must not be
# green.
suites=internal/host,internal/host/vmm/qemu,internal/host/vmm/gvisor,internal/host/network,internal/host/disk,internal/host/datafs,internal/host/image
suites+=,internal/control/postgres,internal/pgserver,internal/guest/process,test/e2e,test/runtimes,test/upgrade,test/docs
mapfile -t plain < <(packages_of "$with_vms" | grep -vE '/(internal/host|test/e2e)$')
mapfile -t rooted < <(packages_of "$privileged")
mapfile -t bubbles < <(packages_of "$with_bubbles")
mapfile -t others < <(packages_of other)

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
	queue+=("$before$(printf '%q ' "${build[@]}" "$@") >$pipe")
}
before='' # a command before each job

# Two jobs run at a time, because most tests with VMs wait for one virtual CPU. The
# longest are first, so that no CPU is idle at the end. The tests of the host are
# three jobs, because each of them runs alone in its process. Beside those of packages that
# need no images, the images are prepared. If that fails, no further job begins: xargs ends
# at the exit code 255.
queue+=("scripts/prepare.sh || touch $work/failed; touch $work/prepared; [ ! -e $work/failed ] || exit 255")
job raced "${user[@]}" -p=1 -race "${extra[@]}" "${others[@]}"
before="until [ -e $work/prepared ]; do [ -d $work ] || exit 255; sleep 1; done; [ ! -e $work/failed ] || exit 255; "
if [[ " ${extra[*]} " == *' -run'* ]]; then
	job e2e "${flags[@]}" "${extra[@]}" ./test/e2e
	job host "${flags[@]}" "${extra[@]}" ./internal/host
else
	# The clients of E2B have a process of their own, in which others do not delay them.
	job e2e "${flags[@]}" "${extra[@]}" -skip '^TestCompat' ./test/e2e
	job e2e-compat "${flags[@]}" "${extra[@]}" -run '^TestCompat' ./test/e2e
	core='^TestCore' first='^Test[A-F]' second='^Test[G-O]'
	job host-first "${flags[@]}" "${extra[@]}" -run "$first" -skip "$core" ./internal/host
	job host-second "${flags[@]}" "${extra[@]}" -run "$second" ./internal/host
	job host-rest "${flags[@]}" "${extra[@]}" -skip "$core|$first|$second" ./internal/host
	# The host core on fake VMs needs no privileges. Under the detector it is a sample of
	# the longest tables.
	job core "${user[@]}" "${extra[@]}" -run "$core" ./internal/host
	job core-raced "${user[@]}" -race "${extra[@]}" -run "$core" ./internal/host
fi
job plain "${flags[@]}" -p=1 "${extra[@]}" "${plain[@]}"
job rooted "${flags[@]}" -p=1 -race "${extra[@]}" "${rooted[@]}"
job bubbles "${user[@]}" -p=1 "${extra[@]}" "${bubbles[@]}"
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
