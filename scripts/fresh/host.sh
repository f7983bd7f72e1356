# shellcheck shell=bash
# The outer half of scripts/test-fresh.sh, sourced by it: makes trees and runs
# a program in one of them. The caller sets "root", this repository, and "work",
# the directory of the trees.
: "${root:=}" "${work:=}"

# host_mirror prints the address that this host's apt has for Debian.
host_mirror() {
	(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null || true) |
		awk '/^deb[ \t]/ { gsub(/\[[^]]*\]/, ""); uri = $2 }
			/^URIs:/ { uri = $2 }
			uri ~ /\/debian\/?$/ { print uri; exit }'
}

# make_tree SUITE DIR makes a minimal tree. One suite is bootstrapped once.
make_tree() {
	local suite=$1 tree=$2 base=$work/base-$1.tar mirror
	mirror=$(host_mirror)
	[ -n "$mirror" ] || die "no Debian archive found in this host's /etc/apt"
	if [ ! -s "$base" ]; then
		with_progress "packages of $suite" \
			mmdebstrap --quiet --variant=minbase --include=ca-certificates,git,make,sudo --format=tar "$suite" "$base.new" "$mirror" >&2
		mv "$base.new" "$base"
	fi
	rm -rf --one-file-system "$tree" # of a run that was cut off
	mkdir "$tree"
	tar -xpf "$base" -C "$tree" --exclude='./dev/*'
	cp -L /etc/resolv.conf "$tree/etc/resolv.conf"
	if ! grep -qsE '^nameserver +[0-9]+' <(grep -v ' 127\.' "$tree/etc/resolv.conf"); then
		cp -L /run/systemd/resolve/resolv.conf "$tree/etc/resolv.conf"
	fi
	printf '127.0.0.1 localhost fresh\n' >"$tree/etc/hosts"
	echo fresh >"$tree/etc/hostname"
	give_settings "$tree"
	give_source "$tree"
	[ ! -d "$(builds_of "$suite")" ] || mv "$(builds_of "$suite")" "$tree/srv/go-build"
}

# builds_of SUITE prints the directory that keeps the build cache of Go between trees.
builds_of() { say "$work/builds-$1"; }

# keep_builds SUITE TREE keeps the build cache of a tree for the next one of the suite,
# so that it does not compile the same program once more.
keep_builds() {
	local cache
	for cache in "$2/root/.cache/go-build" "$2/home/tester/.cache/go-build"; do
		if [ -d "$cache" ] && [ ! -e "$(builds_of "$1")" ]; then mv "$cache" "$(builds_of "$1")"; fi
	done
}

# give_settings gives the tree this host's proxies, certificates and mirrors.
give_settings() {
	local tree=$1 name value go
	apt-config dump Acquire | grep -iE '::(proxy|https?::|retries|timeout)' >"$tree/etc/apt/apt.conf.d/90host" || true
	if compgen -G '/usr/local/share/ca-certificates/*.crt' >/dev/null; then
		mkdir -p "$tree/usr/local/share/ca-certificates"
		cp /usr/local/share/ca-certificates/*.crt "$tree/usr/local/share/ca-certificates/"
		chroot "$tree" update-ca-certificates >/dev/null 2>&1
	fi
	{
		for name in $(carried | tr , ' '); do
			case $name in
			GO*) ;; # below, with what the go command has in its own file
			WRENN_*) ;;
			*) [ -z "${!name:-}" ] || printf 'export %s=%q\n' "$name" "${!name}" ;;
			esac
		done
		go=$(find_go) || return 0
		for name in GOPROXY GOSUMDB GONOSUMDB GOPRIVATE GONOPROXY GOINSECURE; do
			value=$("$go" env "$name")
			# The modules of this host come first.
			[ "$name" != GOPROXY ] || value=file:///srv/modules,$value
			[ -z "$value" ] || printf 'export %s=%q\n' "$name" "$value"
		done
	} >"$tree/srv/environment"
	mkdir -p "$tree/srv/modules"
}

# give_source puts a clone of this repository into the tree, with uncommitted
# changes.
give_source() {
	local to=$1/srv/wrenn
	git -c safe.directory='*' clone --quiet --depth 1 "file://$root" "$to"
	git -c safe.directory='*' diff --binary HEAD | (cd "$to" && git apply --allow-empty --whitespace=nowarn)
	git -c safe.directory='*' ls-files -z --others --exclude-standard | xargs -0r cp --parents -t "$to"
	cp -r scripts/fresh "$1/srv/fresh"
}

# The host's resources of a running tree; "leave" removes them.
link='' groups=() child='' forwarding='' gate=''

# enter TREE USER PARTS runs scripts/fresh/inside.sh in the tree and returns
# its exit code.
enter() {
	local tree=$1 status=0
	link=wf$$ gate=$work/gate
	make_groups
	mkfifo "$gate.pid" "$gate.go"
	(
		local group
		for group in "${groups[@]}"; do echo "$BASHPID" >"$group/cgroup.procs"; done
		exec unshare --mount --pid --fork --kill-child --net --ipc --uts --cgroup --propagation private \
			bash "$root/scripts/fresh/enter.sh" "$gate" "$@" </dev/null
	) &
	child=$!
	connect
	wait "$child" || status=$?
	child=''
	leave
	return "$status"
}

# make_groups makes a control group in each hierarchy that can be used.
make_groups() {
	local at group
	groups=()
	while read -r at; do
		group=$at/wrenn-fresh-$$
		mkdir "$group" 2>/dev/null || continue
		# A cpuset takes no process before it has processors.
		if [ -e "$group/cpuset.cpus" ] && [ ! -e "$group/cgroup.controllers" ]; then
			cat "$at/cpuset.cpus" >"$group/cpuset.cpus"
			cat "$at/cpuset.mems" >"$group/cpuset.mems"
		fi
		groups+=("$group")
	done < <(awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/self/mounts)
}

# connect connects the waiting child's network namespace to the outside: a veth
# pair, and this host's address for outgoing packets.
connect() {
	local pid net=198.19.$((RANDOM % 250)).$((RANDOM % 60 * 4)) mtu
	local here=${net%.*}.$((${net##*.} + 1)) there=${net%.*}.$((${net##*.} + 2))
	read -r pid <"$gate.pid"
	mtu=$(ip -o link show "$(ip -o route get 192.0.2.255 2>/dev/null | sed -n 's/.* dev \([^ ]*\).*/\1/p')" 2>/dev/null | sed -n 's/.* mtu \([0-9]*\).*/\1/p')
	mtu=${mtu:-1400}
	ip link add "$link" mtu "$mtu" type veth peer name eth0 mtu "$mtu" netns "$pid"
	ip addr add "$here/30" dev "$link"
	ip link set "$link" up
	nsenter -t "$pid" -n sh -ec "ip link set lo up; ip addr add $there/30 dev eth0; ip link set eth0 up; ip route add default via $here"
	if [ "$(cat /proc/sys/net/ipv4/ip_forward)" = 0 ]; then
		forwarding=off
		echo 1 >/proc/sys/net/ipv4/ip_forward
	fi
	nft -f - <<-END
		table ip $link {
			chain postrouting {
				type nat hook postrouting priority srcnat;
				ip saddr $net/30 masquerade
			}
		}
	END
	echo go >"$gate.go"
}

# leave ends the child and removes the host's resources for it.
leave() {
	local group
	if [ -n "$child" ]; then
		kill -KILL "$child" 2>/dev/null || true # unshare ignores SIGTERM; its child ends with it
		wait "$child" 2>/dev/null || true
		child=''
	fi
	if [ -n "$link" ]; then
		ip link del "$link" 2>/dev/null || true
		nft delete table ip "$link" 2>/dev/null || true
		link=''
	fi
	[ -z "$forwarding" ] || echo 0 >/proc/sys/net/ipv4/ip_forward
	forwarding=''
	[ -z "$gate" ] || rm -f "$gate.pid" "$gate.go"
	for group in "${groups[@]}"; do
		# Those that the tree's server made, deepest first.
		find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null || true
	done
	groups=()
}

# remove_trees removes the trees that are, or are in, a directory.
remove_trees() {
	local tree
	for tree in "$1" "$1"/*-root "$1"/*-user; do
		[ ! -d "$tree/srv/wrenn" ] || rm -rf --one-file-system "$tree"
	done
}
