# shellcheck shell=bash
# Functions that the scripts share. This file is sourced, never run.

# go.mod names the Go release that builds the product.
go_needed() { awk '$1 == "go" { print $2; exit }' "$1/go.mod"; }

# version_at_least A B: whether version A is B or later.
version_at_least() { dpkg --compare-versions "$1" ge "$2"; }

# find_go prints the newest installed Go that can build the product, or that can
# fetch the required release. The go command does that itself since 1.21, and
# checks the release against the Go checksum database.
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

# use_go puts the Go of find_go first in PATH. Distributions configure their Go
# never to fetch another release; this project needs that it may.
use_go() {
	local go
	go=$(find_go) || die "Go is missing; run scripts/setup.sh"
	PATH=$(dirname "$go"):$PATH
	export PATH GOTOOLCHAIN="${GOTOOLCHAIN:-auto}"
}

# carried lists, with commas between them, the exported variables that a command
# run as root must see: the user's settings of Wrenn, the database, the proxies,
# and where Go modules and certificates come from.
carried() {
	local name names=''
	for name in $(compgen -e); do
		case $name in
		WRENN_* | BENCH_* | FRESH_* | DATABASE_URL | *_proxy | *_PROXY | GOPROXY | GOSUMDB | GONOSUMDB | GONOPROXY | \
			GOPRIVATE | GOINSECURE | GOTOOLCHAIN | SSL_CERT_FILE | SSL_CERT_DIR) names+=,$name ;;
		esac
	done
	printf '%s\n' "${names#,}"
}

# as_root runs a command as root, with the variables that "carried" names:
# sudo alone would drop them.
as_root() {
	local keep
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		keep=$(carried)
		sudo ${keep:+"--preserve-env=$keep"} "$@"
	else
		die "this needs root and sudo is not installed: run the command as root"
	fi
}

# key_copy finds where "wrenn" looks for the API key of the person who runs this.
# It sets "key_user" and "key_dir"; root without a person behind sudo has the
# server's own key, and then both are empty.
key_copy() {
	local home
	key_user=$(id -un) key_dir=''
	[ "$(id -u)" != 0 ] || key_user=${SUDO_USER:-root}
	if [ "$key_user" = root ]; then
		key_user=''
		return
	fi
	home=$(getent passwd "$key_user" | cut -d: -f6)
	key_dir=$home/.config/wrenn
	if [ "$(id -u)" != 0 ]; then key_dir=${XDG_CONFIG_HOME:-$HOME/.config}/wrenn; fi
}

# keep_key DATA gives the person who runs this a copy of the server's API key
# that "wrenn" finds, and prints the file's name: the key itself is for root
# alone. It writes as that person, never as root into a directory of another.
keep_key() {
	local key_user key_dir key file=$1/api-key
	key_copy
	if [ -z "$key_user" ]; then
		say "$file"
		return
	fi
	key=$(as_root cat "$file") || return
	# shellcheck disable=SC2016 # the inner shell is to expand these
	as_user "$key_user" sh -c '
		umask 077 && mkdir -p "$1" && cat >"$1/api-key.new" && mv "$1/api-key.new" "$1/api-key"
	' - "$key_dir" <<<"$key" >&2 || return
	say "$key_dir/api-key"
}

# drop_key DATA removes that copy, unless it is the key of another server.
drop_key() {
	local key_user key_dir key
	key_copy
	[ -n "$key_user" ] || return 0
	key=$(as_root cat "$1/api-key" 2>/dev/null) || return 0
	[ "$(as_user "$key_user" cat "$key_dir/api-key" 2>/dev/null)" = "$key" ] || return 0
	as_user "$key_user" rm "$key_dir/api-key"
	as_user "$key_user" rmdir "$key_dir" 2>/dev/null || true
}

# as_user USER COMMAND... runs a command as that user, who may be the current one.
as_user() {
	local user=$1
	shift
	if [ "$(id -un)" = "$user" ]; then "$@"; else runuser -u "$user" -- "$@"; fi
}

say() { printf '%s\n' "$*"; }
die() {
	printf '%s: %s\n' "$(basename "$0")" "$*" >&2
	exit 1
}

# quoted prints a word as a shell would have to read it.
quoted() { printf '%q\n' "$1"; }

# with_progress NAME COMMAND... runs a command and, every 10 s while it runs,
# prints the name of the work and the time so far. It returns the command's exit code.
with_progress() {
	local what=$1 status=0 ticker clock
	shift
	exec {clock}<> <(:) # nothing is ever written there: reading it is a pause without a process
	(
		began=$SECONDS
		while ! read -r -t 10 -u "$clock" && kill -0 $$ 2>/dev/null; do say "  $what: $((SECONDS - began)) s so far" >&2; done
	) &
	ticker=$!
	"$@" || status=$?
	kill "$ticker" 2>/dev/null || true
	wait "$ticker" 2>/dev/null || true
	exec {clock}>&-
	return "$status"
}

# end_tree PID ends a process and its descendants. A shell's background process
# ignores the interrupt of a terminal, and so do its descendants.
end_tree() {
	local child children=()
	{ read -ra children <"/proc/$1/task/$1/children"; } 2>/dev/null || true # it has no end of line
	for child in "${children[@]}"; do end_tree "$child"; done
	kill "$1" 2>/dev/null || true
}

# wait_until COMMAND... repeats a command until it succeeds.
wait_until() { until "$@"; do sleep 0.1; done; }

# now_ms prints a time in milliseconds, for differences only.
now_ms() { printf '%s\n' "${EPOCHREALTIME//[.,]/}" | sed 's/...$//'; }
# since MS prints the seconds that have passed since then, as "1.2 s".
since() { awk -v ms="$(($(now_ms) - $1))" 'BEGIN { printf "%.1f s", ms / 1000 }'; }
