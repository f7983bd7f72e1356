#!/bin/bash
# Installs the clients of E2B that test/compat pins, unmodified, and runs its suites
# with them against a server of this source.
#
#   scripts/compat.sh            install and run
#   scripts/compat.sh --install  install only; prints the directory
#
# Lock files pin the versions and hashes of all packages. They go below .cache/compat.
# The JavaScript clients need Node.js 20.18.1, which is among the packages for x64. On
# other machines it has to be there.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
work=$PWD/.cache/compat

new_node() { "$1" -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || a === 20 && b >= 18 ? 0 : 1)' 2>/dev/null; }

install_python() { # install_python NAME
	cmp -s "python/$1.txt" "$1/.installed" && return
	rm -rf "$1"
	python3 -m venv "$1" || die "compat: python3 -m venv does not work; install python3-venv"
	"$1/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "python/$1.txt"
	cp "python/$1.txt" "$1/.installed"
}

install_all() {
	scripts/setup.sh --compat
	mkdir -p "$work"
	rm -rf "$work/js" "$work/python"
	cp -R test/compat/. "$work/"
	cd "$work"
	install_python v1
	install_python v2
	if ! cmp -s package-lock.json node_modules/.installed; then
		npm ci --silent
		cp package-lock.json node_modules/.installed
	fi
	local node=node_modules/.bin/node
	[ -x "$node" ] || node=node
	new_node "$node" || die "compat: the JavaScript clients need Node.js 20.18.1: install it and try again"
	cd - >/dev/null
}

if [ "${1:-}" = --install ]; then
	install_all >&2
	say "$work"
	exit
fi
scripts/setup.sh --test
use_go
export WRENN_COMPAT=$work WRENN_TEST_IMAGES=${WRENN_TEST_IMAGES:-/var/lib/wrenn/images} WRENN_REQUIRE=vm,pg,root,compat
make build
export WRENN_BIN=$PWD/bin/wrenn
scripts/prepare.sh
run=()
[ "$(id -u)" = 0 ] || run=(-exec "sudo -E env PATH=$PATH")
go test -count=1 -timeout=60m "${run[@]}" ./test/e2e -run '^TestCompat' -v
