#!/bin/bash
# Runs the driver suite and the life of one sandbox under KVM, and the tests of
# limits with control groups of version 2, on any machine: in an emulated one whose
# processor offers virtualisation. It takes six to twelve minutes; nothing is left
# behind.
#
# WRENN_TEST_IMAGES is the directory of guest kernel and templates, as for
# scripts/test.sh. KVM_SHORT=1, as in CI, leaves out tests that show what others of
# them show as well. Arguments are passed to test/kvm ("-h" lists them).
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
export CGO_ENABLED=0 GOFLAGS="${GOFLAGS:+$GOFLAGS }-trimpath" # as "make build" has it, so that nothing is compiled again
with_progress "build of the first process" go build -o "$work/bin/inside" ./test/kvm/inside
go build -o "$work/kvm" ./test/kvm
for package in host host/cgroup host/vmm/qemu host/vmm/gvisor; do
	with_progress "build of the tests of $package" go test -c -o "$work/bin/${package##*/}.test" "./internal/$package"
done
cp bin/wrenn bin/wrenn-guest bin/wrenn-jail "$work/bin/"
say "== images in $images"
as_root bin/wrenn image build --data-dir "$(dirname "$images")"
WRENN_DATA_DIR=$(dirname "$images") scripts/runsc.sh

say "== an emulated machine with KVM and control groups of version 2"
as_root "$work/kvm" -bin "$work/bin" -images "$images" ${KVM_SHORT:+-short} "$@"
