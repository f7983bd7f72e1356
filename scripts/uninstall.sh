#!/bin/bash
# Removes everything that quickstart, set-up, "make install" and the server have
# put on this machine: the server with its sandboxes, snapshots, images, database,
# networks and firewall table; the packages that set-up installed and that
# nothing else needs, with the accounts they made; the package source it added;
# the installed program. It restores the setting of IPv4 forwarding. This clone
# stays.
#
# It asks for confirmation; WRENN_YES=1 confirms without a terminal.
# WRENN_KEEP_PACKAGES=1 leaves packages and package sources as they are.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
. scripts/look.sh
data=${WRENN_DATA_DIR:-/var/lib/wrenn}
record=/var/lib/wrenn-setup
installed=${PREFIX:-/usr/local}/bin/wrenn
backports=/etc/apt/sources.list.d/wrenn-backports.sources

# removable prints the packages that set-up installed and nothing else needs.
removable() {
	local packages
	mapfile -t packages < <(comm -12 <(LC_ALL=C sort -u "$record/packages") \
		<(dpkg-query -W -f '${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p' | LC_ALL=C sort -u))
	[ ${#packages[@]} != 0 ] || return 0
	as_root apt-mark auto "${packages[@]}" >/dev/null
	comm -12 <(LC_ALL=C apt-get -s autoremove | sed -n 's/^Remv \([^ ]*\).*/\1/p' | LC_ALL=C sort -u) \
		<(printf '%s\n' "${packages[@]}" | LC_ALL=C sort -u)
}

# remove_accounts removes the users and groups that those packages made and left
# behind, unless a package that is still here makes them too.
remove_accounts() {
	local kind name
	[ -s "$record/accounts" ] || return 0
	while read -r kind name; do # users come first
		! grep -lqsw -- "$name" /var/lib/dpkg/info/*.preinst /var/lib/dpkg/info/*.postinst || continue
		case $kind in
		user) ! getent passwd "$name" >/dev/null || as_root userdel "$name" ;;
		group) ! getent group "$name" >/dev/null || as_root groupdel "$name" ;;
		esac
		say "removed the $kind $name"
	done < <(LC_ALL=C sort -ur "$record/accounts")
}

say "This destroys every sandbox, snapshot and image in $data and removes Wrenn from this machine."
if [ "${WRENN_YES:-}" != 1 ]; then
	[ -t 0 ] || die "nobody can be asked here: WRENN_YES=1 confirms"
	read -r -p 'Type "yes" to continue: ' answer
	[ "$answer" = yes ] || die "nothing was removed"
fi

drop_key "$data"
if [ -x bin/wrenn ]; then
	wrenn=$PWD/bin/wrenn
elif ! wrenn=$(command -v wrenn); then
	pid=$(our_server) && wrenn=/proc/$pid/exe || wrenn=''
fi
if [ -n "$wrenn" ]; then
	as_root bash -c 'exec "$@"' - "$wrenn" uninstall --yes --data-dir "$data"
elif as_root test -e "$data"; then
	die "there is no wrenn program to remove $data with: 'make build', then try again"
fi
[ ! -e "$installed" ] || { as_root rm -f "$installed" && say "removed $installed"; }

if [ -z "${WRENN_KEEP_PACKAGES:-}" ] && [ -s "$record/packages" ]; then
	mapfile -t packages < <(removable)
	if [ ${#packages[@]} != 0 ]; then
		say "removing ${#packages[@]} packages that set-up installed"
		with_progress "removing packages" as_root env DEBIAN_FRONTEND=noninteractive apt-get purge -y -q "${packages[@]}" >/dev/null
	fi
	remove_accounts
	if grep -qs "^# Written by Wrenn's" "$backports"; then
		as_root rm -f "$backports"
		say "removed $backports"
	fi
	as_root rm -rf "$record"
fi
say "Wrenn is removed; this clone and its bin/ are left ('make clean')"
