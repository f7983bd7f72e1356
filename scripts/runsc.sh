#!/bin/bash
# Builds runsc, the program that runs a gVisor sandbox, from the sources, the module and
# the checksums in tools/gvisor, and keeps it where the host agent looks for it:
#
#   <images>/runsc/<id>/runsc        the program; <id> begins its SHA-256
#   <images>/runsc/<id>/build.json   version, digest, and the digest of its recipe
#
# The images are those of the data directory that WRENN_DATA_DIR names, or of
# /var/lib/wrenn. It prints the path of the program. A build of the same recipe
# (sources, module, checksums, compiler, flags) is not repeated. The agent uses the newest
# build by the time of its description, and keeps copies of those that sandboxes
# were saved under. The last two builds stay here, for the way back.
#
#   scripts/runsc.sh                 build, if necessary
#   scripts/runsc.sh --update        move the pin to the newest version, build it, and
#                                    run the driver's tests with it
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
use_go

module=gvisor.dev/gvisor
store=${WRENN_DATA_DIR:-/var/lib/wrenn}/images/runsc
update=''
case ${1:-} in
'') ;;
--update)
	update=yes
	(cd tools/gvisor && go get "$module@latest" && go mod tidy)
	;;
*) die "unknown argument $1; there is --update" ;;
esac
version=$(cd tools/gvisor && go list -m -f '{{.Version}}' "$module")
flags=(-trimpath -buildvcs=false -mod=readonly -ldflags "-s -w -X $module/runsc/version.version=$version")
recipe=$(
	cd tools/gvisor
	{ cat go.mod go.sum ./*/* && go env GOVERSION GOARCH GOAMD64 && printf '%s\n' "${flags[@]}"; } | sha256sum | cut -c1-64
)

# digest prints the SHA-256 of a file.
digest() { sha256sum "$1" | cut -c1-64; }

# kept prints the path of the build of this recipe, if it is there and whole.
kept() {
	local description dir
	while read -r description; do
		dir=$(dirname "$description")
		if [ -x "$dir/runsc" ] && [[ $(digest "$dir/runsc") == "$(basename "$dir")"* ]]; then
			as_root touch "$description" # it is the current one again
			say "$dir/runsc"
			return
		fi
	done < <(grep -lsF "\"recipe\": \"$recipe\"" "$store"/*/build.json || true)
}

# finish prints the path of the build, and tests an updated one.
finish() {
	local as_root=()
	say "$1"
	if [ -n "$update" ]; then
		[ "$(id -u)" = 0 ] || as_root=(-exec "sudo -E env PATH=$PATH")
		WRENN_REQUIRE=vm WRENN_TEST_IMAGES=$(dirname "$store") go test -count=1 "${as_root[@]}" ./internal/host/vmm/gvisor
	fi
	exit
}

found=$(kept)
[ -z "$found" ] || finish "$found"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
say "runsc: building $version; this takes one to three minutes" >&2
# The filters are those of this machine's architecture, which is the build's too.
(
	cd tools/gvisor
	export CGO_ENABLED=0
	go run "${flags[@]}" ./precompile >"$work/programs.go"
	printf '{"Replace": {"%s": "%s"}}' "$PWD/runsc/programs.go" "$work/programs.go" >"$work/overlay.json"
	go build "${flags[@]}" -overlay "$work/overlay.json" -o "$work/runsc" ./runsc
) >&2
sum=$(digest "$work/runsc")
id=${sum:0:32}
cat >"$work/build.json" <<END
{"id": "$id", "version": "$version", "digest": "$sum", "recipe": "$recipe"}
END
# The build appears under its name complete and on disk, or not at all.
as_root mkdir -p "$store"
ready=$(as_root mktemp -d "$store/.new-XXXXXX")
as_root install -m 0555 "$work/runsc" "$ready/runsc"
as_root install -m 0444 "$work/build.json" "$ready/build.json"
as_root chmod 0755 "$store" "$ready"
as_root sync "$ready/runsc" "$ready/build.json" "$ready"
as_root rm -rf "${store:?}/$id"
as_root mv -T "$ready" "$store/$id"
as_root sync "$store"
as_root find "$store" -mindepth 2 -maxdepth 2 -name build.json -printf '%T@ %h\n' | sort -rn | tail -n +3 | cut -d ' ' -f 2- |
	while read -r old; do as_root rm -rf "$old"; done
finish "$store/$id/runsc"
