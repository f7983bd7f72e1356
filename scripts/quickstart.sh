#!/bin/bash
# From nothing to a running sandbox on Debian 12 or 13 and Ubuntu 22.04 or
# 24.04: checks the machine, installs missing packages, builds, prepares the
# guest's kernel and template, starts a server in the background, and runs
# Python in a sandbox. Running it again takes seconds.
#
# On a machine without usable KVM it also builds runsc, beside the guest's images,
# and sandboxes run under gVisor. WRENN_RUNTIME=gvisor does so with KVM too, and
# WRENN_RUNTIME=microvm leaves runsc out. WRENN_RUNSC is an installed runsc.
#
# WRENN_DATA_DIR is where data is kept, by default /var/lib/wrenn. WRENN_LISTEN
# is the server's address, by default 127.0.0.1:8080; WRENN_URL is how it is
# reached, where that differs. Every other WRENN_ variable that "wrenn up"
# knows reaches the server too, and so do proxies (http_proxy, ...), GOPROXY
# and WRENN_DEBIAN_MIRROR. With WRENN_YES=1 the script continues although memory
# or disk are short or QEMU would move to another version.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
. scripts/look.sh

default_data=/var/lib/wrenn
data=${WRENN_DATA_DIR:-$default_data}
[ "${data#/}" != "$data" ] || data=$PWD/$data
log=$data/wrenn.log
began=$(now_ms)

step() { printf '\n\033[1m%s\033[0m\n' "$*"; }
ready() { curl -fsS --noproxy '*' -m 2 -o /dev/null "$url/readyz" 2>/dev/null; }

# start_server starts "wrenn up" apart from this terminal and returns when
# the server is ready. If it ends instead, the end of its log is shown.
start_server() {
	local pid told=$SECONDS
	as_root mkdir -p "$data"
	# The shell that stays as its parent must not hold this script's output open.
	# At a terminal setsid(1) forks, unless it is told to wait: sudo, which gives
	# its command a terminal of its own (use_pty), would end at once otherwise.
	# shellcheck disable=SC2016 # the inner shell is to expand these
	as_root bash -c 'exec setsid --wait bin/wrenn up --data-dir "$1" --listen "$2" >>"$3" 2>&1' - "$data" "$listen" "$log" \
		</dev/null >/dev/null 2>&1 &
	pid=$!
	until ready; do
		if [ ! -d "/proc/$pid" ] || [ $(($(now_ms) - began)) -gt 900000 ]; then
			say "The server did not start. The end of $log:"
			as_root tail -n 20 "$log"
			die "run 'sudo bin/wrenn doctor --data-dir $(quoted "$data")' to see what this machine lacks"
		fi
		if [ $((SECONDS - told)) -ge 10 ]; then
			told=$SECONDS
			say "  still starting: $(as_root tail -n 1 "$log" | sed -n 's/.*msg=//p' | cut -c1-100)"
		fi
		sleep 0.1
	done
	disown "$pid"
}

program='
import os, platform, time
began = time.perf_counter()
sieve = bytearray([1]) * 200_001
for n in range(2, 448):
    if sieve[n]:
        sieve[n * n :: n] = bytes(len(sieve[n * n :: n]))
print(f"Python {platform.python_version()} on Linux {platform.release()}, user id {os.getuid()}")
print(f"{sum(sieve) - 2} primes below 200,000, in {time.perf_counter() - began:.3f} s")
'

step "1. Check this machine"
look_address
look_machine
look_port
scripts/setup.sh
say "nothing is missing ($(since "$began"))"

step "2. Build"
at=$(now_ms)
with_progress "building" make build
say "bin/wrenn ($(since "$at"))"
# The program checks more than the shell could, still before the long part.
if ! found=$(as_root bin/wrenn doctor --data-dir "$data" --listen "$listen" --before-images); then
	awk '/^[a-z]/ { bad = /^fail/ } bad' <<<"$found"
	die "sandboxes cannot run here: see above"
fi

at=$(now_ms)
if wants_runsc <<<"$found"; then
	step "3. Guest kernel, template and runsc"
	with_progress "building runsc" env WRENN_DATA_DIR="$data" scripts/runsc.sh >/dev/null &
	runsc=$!
	trap 'end_tree "$runsc"' EXIT
	as_root bin/wrenn image build --data-dir "$data"
	if wait "$runsc"; then
		say "runsc: ready"
	elif [ "${WRENN_RUNTIME:-}" = gvisor ]; then
		die "runsc could not be built: see above, or leave WRENN_RUNTIME=gvisor out"
	else
		say "warning: runsc could not be built, so that sandboxes run in an emulated processor; 'make runsc' tries again"
	fi
	trap - EXIT
else
	step "3. Guest kernel and template"
	as_root bin/wrenn image build --data-dir "$data"
fi
say "ready ($(since "$at"))"

step "4. Server"
at=$(now_ms)
if [ -n "$running" ] && our_server >/dev/null; then
	with_progress "waiting for $url" wait_until ready
	say "one is already running at $url (process $running); 'make stop' and quickstart again to run this build"
else
	start_server
	say "$url is ready ($(since "$at")); its log is $log"
fi

export WRENN_URL=$url
# A server with --no-auth has made no key.
key_file=''
if as_root test -e "$data/api-key"; then
	key_file=$(keep_key "$data") || die "the API key of the server cannot be copied from $data/api-key"
	say "its API key is in $key_file, where wrenn finds it"
fi

bin/wrenn hosts --json | runtime_line

step "5. A sandbox of its own for a small program"
at=$(now_ms)
with_progress "the first sandbox of a kind boots, later ones are copies of it" \
	bin/wrenn run --timing -- python3 -c "$program"
say "created, run and destroyed ($(since "$at"))"

# Commands to copy work for a server and a directory that are not the default.
stop='make stop'
[ "$data" = "$default_data" ] || stop="make stop WRENN_DATA_DIR=$(quoted "$data")"
step "Done in $(since "$began"). Next steps:"
[ -z "$custom" ] || say "  export WRENN_URL=$url      # the commands below find the server by it"
if [ "$key_file" = "$data/api-key" ] && [ "$data" != "$default_data" ]; then
	printf '  export WRENN_DATA_DIR=%q    # where wrenn finds the API key\n' "$data"
fi
cat <<END
  bin/wrenn create                                   # a sandbox that stays; prints its id
  bin/wrenn exec ID -- sh -c 'uname -a; ps aux'      # a command in it
  bin/wrenn cp file.txt ID:/home/user/               # files, both ways
  bin/wrenn pause ID; bin/wrenn resume ID            # its memory and processes survive
  bin/wrenn fork --count 2 ID                        # two copies of it, processes running
  bin/wrenn ls; bin/wrenn rm ID

END
auth=''
if [ -n "$key_file" ]; then
	# shellcheck disable=SC2016 # these are to be pasted
	printf '  key=$(cat %q)\n' "$key_file"
	# shellcheck disable=SC2016
	auth=' -H "Authorization: Bearer $key"'
fi
cat <<END
  curl -s$auth -H 'Content-Type: application/json' $url/v1/sandboxes -d '{"template":"minimal"}'
  curl -s$auth $url/v1/sandboxes
  curl -s$auth -H 'Content-Type: application/json' $url/v1/sandboxes/ID/exec -d '{"cmd":"python3","args":["-c","print(6*7)"]}'
  curl -s$auth -X DELETE $url/v1/sandboxes/ID

  $(printf '%-50s' "$url/docs") # the API, to read and to try; "Authorize" takes the key
  $(printf '%-50s' "$stop") # pause the sandboxes and stop the server
  make install                                       # put wrenn into PATH (/usr/local/bin)
END
