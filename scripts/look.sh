# shellcheck shell=bash
# The checks of quickstart before it installs or builds anything. Each function
# returns, or names the obstacle and the setting to change, and ends the script.
# The file is sourced, never run, and needs no program that a minimal Debian
# lacks. The caller sets "data", the data directory.
: "${data:=}"
# Results of the functions below, for the caller.
export listen='' url='' custom='' running=''
export -n listen url custom running

# Least amounts in MB. On a minimal Debian 12 packages, Go and its caches took
# 1,900; kernel, template and one template snapshot 600, beside which 2,048 are
# kept in reserve for pauses.
system_mb=3000 data_mb=4000 memory_mb=1200

# look_address determines the server's listen address and its URL. It sets
# "listen", "url" and "custom" (not empty if they are not the default). If only
# one of WRENN_LISTEN and WRENN_URL is set, the other is derived from it.
look_address() {
	local host port rest
	custom=${WRENN_LISTEN:-}${WRENN_URL:-}
	if [ -n "${WRENN_LISTEN:-}" ]; then
		listen=$WRENN_LISTEN
	elif [ -n "${WRENN_URL:-}" ]; then
		rest=${WRENN_URL#*://} rest=${rest%%/*}
		case $rest in
		*]) listen=$rest:80 ;;
		*:*) listen=$rest ;;
		*) listen=$rest:80 ;;
		esac
	else
		listen=127.0.0.1:8080
	fi
	split_address "$listen"
	case $host in
	'' | 0.0.0.0) rest=127.0.0.1 ;;
	::) rest='[::1]' ;;
	*:*) rest="[$host]" ;;
	*) rest=$host ;;
	esac
	url=${WRENN_URL:-http://$rest:$port}
	url=${url%/}
	case $url in
	*://*) ;;
	*) url=http://$url ;;
	esac
}

# split_address sets "host" and "port" from HOST:PORT.
split_address() {
	host=${1%:*} port=${1##*:}
	host=${host#[} host=${host%]}
	[[ $1 == *:* && $port =~ ^[0-9]+$ ]] || die "WRENN_LISTEN is HOST:PORT, such as 127.0.0.1:8081, not '$1'"
}

# our_server prints the process id of the "wrenn up" that uses the data
# directory. It fails if none runs.
our_server() {
	local pid
	pid=$(as_root cat "$data/up.lock" 2>/dev/null) || return 1
	[ -n "$pid" ] && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = wrenn ] && printf '%s\n' "$pid"
}

# look_port finds out whether a server can listen. It sets "running" to the
# process id of the server of this data directory if that serves at "listen".
look_port() {
	local host port why pid listeners owner at other
	running=''
	split_address "$listen"
	listeners=$(as_root scripts/listeners.pl)
	if pid=$(our_server); then
		if grep -qE "^[^ ]+ $port $pid " <<<"$listeners"; then
			running=$pid
			return
		fi
		at=$(awk -v pid="$pid" '$3 == pid { print $1 ":" $2; exit }' <<<"$listeners")
		die "the server that uses $data (process $pid) $([ -n "$at" ] && echo "listens on $at" || echo 'does not serve yet'), not on $listen: run 'make stop' first${at:+, or set WRENN_LISTEN=$at}"
	fi
	why=$(as_root scripts/listeners.pl --try "$host" "$port") && return
	case $why in
	*'in use'*)
		owner=$(awk -v port="$port" '$2 == port && $3 > 0 { print $4 " (process " $3 ")"; exit }' <<<"$listeners")
		for other in {8081..8199}; do
			! scripts/listeners.pl --try "$host" "$other" >/dev/null || break
		done
		die "$listen is taken by ${owner:-a program that cannot be seen from here}. Choose another address: WRENN_LISTEN=${host:-127.0.0.1}:$other make quickstart"
		;;
	*) die "a server cannot listen on $listen: $why. Set WRENN_LISTEN to an address of this machine, such as 127.0.0.1:8081" ;;
	esac
}

# look_space DIR MB WHAT SETTING checks that DIR has MB of free space for WHAT.
look_space() {
	local at=$1 free
	while [ ! -d "$at" ]; do at=$(dirname "$at"); done
	free=$(df -Pk "$at" | awk 'NR == 2 { print int($4 / 1024) }')
	[ "$free" -ge "$2" ] || short "$3 need $2 MB in $at, where $free MB are free: make room, or $4"
}

# short ends the script because a resource is short, or continues with WRENN_YES=1.
short() {
	[ "${WRENN_YES:-}" = 1 ] || die "$* (WRENN_YES=1 continues anyway)"
	say "warning: $*"
}

# look_machine checks whether this machine can run sandboxes at all.
look_machine() {
	local free limit
	[ "$(uname -m)" = x86_64 ] || die "this machine is $(uname -m); sandboxes run on x86_64 only"
	as_root true || die "set-up and server need root: run this as root, or as a user who may use sudo"
	free=$(awk '$1 == "MemAvailable:" { print int($2 / 1024) }' /proc/meminfo)
	limit=$(cat /sys/fs/cgroup/memory.max 2>/dev/null || echo max)
	[ "$limit" = max ] || [ $((limit >> 20)) -ge "$free" ] || free=$((limit >> 20))
	[ "$free" -ge "$memory_mb" ] || short "building and one sandbox need $memory_mb MB of memory, and $free MB are available: end other programs, or give the machine more"
	look_space / "$system_mb" "packages and the build" "mount a larger file system there"
	look_space "$data" "$data_mb" "images and sandboxes" "set WRENN_DATA_DIR to a directory on a larger file system"
	look_kernel
}

# look_kernel tries the kernel features that the host agent needs.
look_kernel() {
	as_root unshare --net --mount true 2>/dev/null ||
		die "the kernel refuses network and mount namespaces, even to root. In a container, run this with full privileges (docker run --privileged)"
	as_root sh -c '[ -c /dev/net/tun ] || modprobe tun 2>/dev/null; : <>/dev/net/tun' 2>/dev/null ||
		die "/dev/net/tun does not open, which a sandbox's network card needs. Try 'modprobe tun'; in a container, give it the device (docker run --device /dev/net/tun)"
	# shellcheck disable=SC2016 # the inner shell is to expand these
	as_root sh -c 'for d in /sys/fs/cgroup /sys/fs/cgroup/*; do [ ! -e "$d/cgroup.procs" ] || [ ! -w "$d" ] || exit 0; done; exit 1' ||
		say "warning: control groups cannot be made here, so that sandboxes have no limits of their own but their VM's size"
}

# wants_runsc reads the output of "wrenn doctor". It succeeds if runsc is to be built,
# or brought up to date. Where microVMs are fast it is built when somebody asks for it.
wants_runsc() { [ -z "${WRENN_RUNSC:-}" ] && ! grep -qE '^ok +gvisor +runsc is not built'; }

# runtime_line reads the output of "wrenn hosts --json" and prints the runtime of
# sandboxes that ask for none, its isolation and the reason for it.
runtime_line() {
	awk '
		function value() { match($0, /": ".*"/); return substr($0, RSTART + 4, RLENGTH - 5) }
		/"runtimes": \[/ { listed = 1 }
		listed && /"runtime": "/ { runtime = value() }
		listed && /"reason": "/ { reason = value(); gsub(/\\"/, "\"", reason) }
		listed && /"isolation": "/ && !isolation { isolation = value(); first = runtime; why = reason }
		END { if (isolation) print "runtime: " first " (isolation " isolation "). Reason: " why }
	'
}
