#!/bin/bash
# The first process of a minimal tree: inside.sh USER PARTS. It types the
# README's commands, as root or as a user with sudo at a terminal, and checks the
# results. Everything in the tree ends with it.
set -Eeuo pipefail
trap 'echo "fresh: FAILED in line $LINENO"' ERR
user=$1 parts=$2
clone=/srv/wrenn
set -a
# shellcheck source=/dev/null
. /srv/environment
set +a

fail() {
	echo "fresh: FAILED: $*"
	exit 1
}

# Debian's sudo gives a command a terminal of its own. That has broken the
# start of the server before, so a tree without it would show little.
if [ "$user" = user ]; then
	grep -q '^Defaults.*use_pty' /etc/sudoers || fail "sudo has no use_pty here"
	useradd --create-home --shell /bin/bash --groups sudo tester
	echo 'tester ALL=(ALL:ALL) NOPASSWD: ALL' >/etc/sudoers.d/tester
	mv /srv/wrenn /home/tester/wrenn
	clone=/home/tester/wrenn
	chown -R tester: "$clone"
	# A terminal that user opened is the user's.
	chmod 666 /dev/tty
fi
# The build cache of an earlier tree.
if [ -d /srv/go-build ]; then
	cache=/root/.cache
	[ "$user" = root ] || cache=/home/tester/.cache
	mkdir -p "$cache"
	mv /srv/go-build "$cache/"
	[ "$user" = root ] || chown -R tester: "$cache"
fi

# types LINE runs a line in the clone as the user would, at a terminal where
# the user is not root. The output goes to the log and to $said.
said=/srv/said
types() {
	local status=0
	echo "fresh\$ $1"
	case $user in
	root) (cd "$clone" && bash -c "$1") 2>&1 | tee "$said" || status=$? ;;
	user)
		env -C "$clone" HOME=/home/tester USER=tester LOGNAME=tester \
			runuser -u tester -- script -qec "$1" /dev/null | tee "$said" || status=$?
		;;
	esac
	return "$status"
}

# expect LINE TEXT types a line that must succeed and print a text.
expect() {
	local began=$SECONDS
	types "$1" || fail "'$1' ended with $?"
	grep -aqE "$2" "$said" || fail "'$1' did not print '$2'"
	echo "fresh: $1: $((SECONDS - began)) s"
}

# state lists the parts of a machine that set-up and server change: accounts,
# packages and their sources, forwarding, networks, control groups and files.
# Debian never removes some packages by itself once they are there (e2fsprogs,
# adduser), so only packages that no other package needs are listed.
state() {
	getent passwd
	getent group
	dpkg-query -W -f '${db:Status-Status} ${Package}\n' | grep -E '^installed (qemu|postgres|golang|mmdebstrap|erofs|xfsprogs|curl|iproute2|shellcheck)' || true
	find /etc/apt/sources.list /etc/apt/sources.list.d /usr/local/bin /var/lib/wrenn* /run/netns* /run/wrenn* /home/*/.config/wrenn 2>/dev/null || true
	echo "forwarding $(cat /proc/sys/net/ipv4/ip_forward)"
	ls /sys/class/net
	find /sys/fs/cgroup -type d
}

quickstart() {
	echo 0 >/proc/sys/net/ipv4/ip_forward
	state >/srv/before
	expect "make quickstart" "primes below 200,000"
	grep -a '^runtime: ' "$said" | sed 's/^/fresh: /' || fail "quickstart did not name the runtime"
	expect "make quickstart" "one is already running"
	expect "make stop" "stopped"
	# Another address, set like a proxy in the user's environment, reaches the
	# server through sudo; and a server can be stopped without its program.
	expect "WRENN_LISTEN=127.0.0.1:8090 make quickstart" "127.0.0.1:8090 is ready"
	expect "make clean stop" "stopped"
	expect "make build install" "/usr/local/bin/wrenn"
	expect "WRENN_YES=1 make uninstall" "Wrenn is removed"
	state >/srv/after
	diff /srv/before /srv/after || fail "make uninstall left or took something"
	apt-get install -y -q nftables >/dev/null
	[ -z "$(nft list tables)" ] || fail "make uninstall left $(nft list tables)"
}

# qemu checks set-up on a machine whose QEMU would move to another version: it
# stops with a message and changes nothing, unless a variable lets it continue.
qemu() {
	local before
	apt-get update -q >/dev/null
	DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends qemu-system-x86 >/dev/null
	before=$(dpkg-query -W && grep -rs . /etc/apt/sources.list /etc/apt/sources.list.d)
	if types "make quickstart"; then fail "QEMU moved to another version without a word"; fi
	grep -aq 'WRENN_KEEP_QEMU=1' "$said" || fail "set-up did not say how to continue"
	[ "$before" = "$(dpkg-query -W && grep -rs . /etc/apt/sources.list /etc/apt/sources.list.d)" ] ||
		fail "set-up stopped and had changed packages or their sources"
	expect "WRENN_KEEP_QEMU=1 make setup" "one tenant only"
	if types "make setup"; then fail "once kept, QEMU moved to another version without a word"; fi
	expect "WRENN_YES=1 make setup" "setup: done"
}

for part in $parts; do
	case $part in
	quickstart) quickstart ;;
	qemu) qemu ;;
	test) expect "make test" "^[0-9]+ passed, 0 failed" ;;
	*) fail "there is no part $part" ;;
	esac
done
