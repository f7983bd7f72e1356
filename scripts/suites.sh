# shellcheck shell=bash
# shellcheck disable=SC2034 # the scripts that source this file use its variables
# Kinds of packages, by the needs of their tests, as extended regular expressions of the end
# of a package's path. This file is sourced, never run.

# The packages with_vms start VMs. The race detector slows the host's side of a VM's life
# too much for the deadlines that guests and VMMs have.
with_vms='internal/host|internal/host/vmm/(jail|qemu|gvisor)|test/(e2e|runtimes|upgrade|docs)'
# The packages with_bubbles have a timer that starts a goroutine in a bubble of
# testing/synctest, which can crash the race detector (golang.org/issue/78156). The
# simulation has millions of them.
with_bubbles='internal/control/sim'
# The privileged packages have tests that need root, a database or images, and start no VM.
privileged='cmd/wrenn|internal/(archive|bench|control(/auth|/postgres)?|linux/cgroupfs|pgserver)|internal/guest/(boot|filesystem|process)'
privileged+='|internal/host/(cgroup|datafs|disk|doctor|hosttest|image|network)|internal/host/vmm/(emulator|runsc|tsc)'

# packages_of KIND... prints the packages of those kinds; with "other" those of no kind.
packages_of() {
	local kinds all="$with_vms|$with_bubbles|$privileged"
	case $* in
	other) go list ./... | grep -vE "^[^/]+/[^/]+/[^/]+/($all)$" ;;
	*)
		kinds=$(
			IFS='|'
			say "$*"
		)
		go list ./... | grep -E "^[^/]+/[^/]+/[^/]+/($kinds)$"
		;;
	esac
}

# unprivileged is the program, with arguments, that "go test -exec" runs tests with, so that
# they have no privileges, whoever calls it. It is empty where the caller has none.
unprivileged=''
[ "$(id -u)" != 0 ] || unprivileged='unshare --user --map-user=65534 --map-group=65534'
