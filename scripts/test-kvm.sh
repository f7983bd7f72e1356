#!/bin/bash
# Runs the driver suite and the life of one sandbox under KVM, on any machine:
# in an emulated one whose processor offers virtualisation. It takes five to ten
# minutes; nothing is left behind.
#
# WRENN_TEST_IMAGES is the directory of guest kernel and templates, as for
# scripts/test.sh. Arguments are passed to test/kvm ("-h" lists them).
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
scripts/setup.sh --test
use_go
images=${WRENN_TEST_IMAGES:-/var/lib/wrenn/images}
[ "$(basename "$images")" = images ] || die "WRENN_TEST_IMAGES must end in /images, not $images"

say "== build"
with_progress build make build
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/bin"
export CGO_ENABLED=0
with_progress "build of the first process" go build -trimpath -o "$work/bin/inside" ./test/kvm/inside
go build -o "$work/kvm" ./test/kvm
with_progress "build of the driver suite" go test -c -o "$work/bin/qemu.test" ./internal/host/vmm/qemu
with_progress "build of the host's tests" go test -c -o "$work/bin/host.test" ./internal/host
cp bin/wrenn bin/wrenn-guest bin/wrenn-jail "$work/bin/"
say "== images in $images"
as_root bin/wrenn image build --data-dir "$(dirname "$images")"

say "== an emulated machine with KVM"
as_root "$work/kvm" -bin "$work/bin" -images "$images" "$@"
