#!/bin/bash
# The first process in a tree's namespaces: enter.sh GATE TREE USER PARTS. It
# waits until the host has connected its network, mounts the file systems of a
# machine, makes TREE the root, and executes the tree's own first process.
set -euo pipefail
gate=$1 tree=$2 user=$3 parts=$4

# /proc is still the host's, so that this is the process id the host knows.
read -r pid _ </proc/self/stat
echo "$pid" >"$gate.pid"
read -r _ <"$gate.go"
hostname fresh

mount --bind "$tree" "$tree"
mount -t devtmpfs devtmpfs "$tree/dev"
mkdir -p "$tree/dev/pts" "$tree/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts "$tree/dev/pts"
mount --bind "$tree/dev/pts/ptmx" "$tree/dev/ptmx"
mount -t tmpfs -o mode=1777 tmpfs "$tree/dev/shm"
mount -t tmpfs -o mode=0755 tmpfs "$tree/run"
mount -t proc proc "$tree/proc"
mount -t sysfs sysfs "$tree/sys"
# Control groups as the host has them, seen from the tree's own ones.
awk '$2 == "/sys/fs/cgroup" && $3 == "tmpfs" { print $2, $3, "mode=0755" }
	$3 == "cgroup" || $3 == "cgroup2" { print $2, $3, $4 }' /proc/self/mounts |
	while read -r at kind options; do
		mkdir -p "$tree$at"
		options=$(tr , '\n' <<<"$options" | grep -vxE 'rw|ro|relatime|nosuid|nodev|noexec' | paste -sd, || true)
		mount -t "$kind" ${options:+-o "$options"} "$kind" "$tree$at"
		# A v2 group that hands controllers down may hold no process itself.
		if [ "$kind" = cgroup2 ] && [ "$at" = /sys/fs/cgroup ]; then
			mkdir "$tree$at/init"
			echo 1 >"$tree$at/init/cgroup.procs"
		fi
	done
modules=$(go env GOMODCACHE 2>/dev/null || echo /root/go/pkg/mod)/cache/download
[ ! -d "$modules" ] || mount --bind -o ro "$modules" "$tree/srv/modules"

cd "$tree"
pivot_root . .
umount -l .
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LANG=C.UTF-8 \
	/bin/bash /srv/fresh/inside.sh "$user" "$parts"
