# shellcheck shell=bash
# What the scripts share. It is sourced, never run.

# go.mod names the Go release that builds the product.
go_needed() { awk '$1 == "go" { print $2; exit }' "$1/go.mod"; }

# version_at_least A B: whether version A is B or later.
version_at_least() { dpkg --compare-versions "$1" ge "$2"; }

# find_go prints the newest Go here that can build the product or fetch the
# release that can: since 1.21 the go command does that itself, checked
# against the Go checksum database.
find_go() {
	local go version best='' best_version=0
	for go in "$(command -v go || true)" /usr/local/go/bin/go /usr/lib/go-*/bin/go; do
		[ -x "$go" ] || continue
		version=$(GOTOOLCHAIN=local "$go" version 2>/dev/null | sed -n 's/^go version go\([0-9.]*\).*/\1/p')
		if [ -n "$version" ] && version_at_least "$version" 1.21 && version_at_least "$version" "$best_version"; then
			[ "$version" = "$best_version" ] || { best=$go best_version=$version; }
		fi
	done
	[ -n "$best" ] && printf '%s\n' "$best"
}

# use_go puts the Go that find_go found first in PATH. Distributions tell
# their Go never to fetch another release; this project needs that it may.
use_go() {
	local go
	go=$(find_go) || die "Go is missing; run scripts/setup.sh"
	PATH=$(dirname "$go"):$PATH
	export PATH GOTOOLCHAIN="${GOTOOLCHAIN:-auto}"
}

# as_root runs a command as root.
as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		die "this needs root and sudo is not installed: run the command as root"
	fi
}

say() { printf '%s\n' "$*"; }
die() {
	printf '%s: %s\n' "$(basename "$0")" "$*" >&2
	exit 1
}

# now_ms prints the time in milliseconds; only differences mean anything.
now_ms() { printf '%s\n' "${EPOCHREALTIME//[.,]/}" | sed 's/...$//'; }
# since MS prints the seconds that have passed since then, as "1.2 s".
since() { awk -v ms="$(($(now_ms) - $1))" 'BEGIN { printf "%.1f s", ms / 1000 }'; }
