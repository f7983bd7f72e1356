#!/bin/bash
# Installs, with apt, the packages that Wrenn needs and this machine lacks: on
# Debian 12 or 13, Ubuntu 22.04 or 24.04. It changes nothing when nothing is missing.
#
#   scripts/setup.sh          install missing packages (as root or with sudo)
#   scripts/setup.sh --check  list missing packages and exit 1, or exit 0
#   scripts/setup.sh --test   install also the packages that the tests need
#   scripts/setup.sh --compat  install also those that the clients of test/compat need
#
# Debian 12 has a new enough QEMU and Go only in its backports, which the script
# then enables, with a message. If an installed QEMU would move to another
# version, the script stops with a message. WRENN_YES=1 lets it continue, and
# WRENN_KEEP_QEMU=1 lets it continue without changing QEMU.
#
# The installed packages are listed in /var/lib/wrenn-setup, for "make uninstall".
set -Eeuo pipefail
trap 'echo "setup: failed in line $LINENO" >&2' ERR
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/scripts/lib.sh"

check='' compat='' packages=(
	ca-certificates curl debian-archive-keyring e2fsprogs erofs-utils git iproute2 make mmdebstrap xfsprogs xz-utils
)
for arg; do
	case $arg in
	--check) check=yes ;;
	--test) packages+=(gcc libc6-dev nftables procps python3 shellcheck) ;; # gcc serves the race detector; tests run nft, ps and python3
	--compat) packages+=(python3 python3-venv) compat=yes ;;
	*) die "unknown argument $arg; there are --check, --test and --compat" ;;
	esac
done
command -v apt-get >/dev/null || die "this needs Debian or Ubuntu; elsewhere install the packages in scripts/setup.sh by hand"

# Older QEMU opens the memory file that sandboxes share for writing.
qemu_wanted=8.2
record=/var/lib/wrenn-setup # the list of changes to this machine
backports_file=/etc/apt/sources.list.d/wrenn-backports.sources
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
# shellcheck source=/dev/null
. /etc/os-release
os=${ID:-unknown} codename=${VERSION_CODENAME:-unknown}

qemu_version() { (qemu-system-x86_64 --version 2>/dev/null || true) | sed -n 's/^QEMU emulator version \([0-9.]*\).*/\1/p'; }

have_postgres() { compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; }

# find_missing fills "missing" with the packages to install and "reasons" with
# explanations for the user.
find_missing() {
	local installed package version
	missing=() reasons=()
	installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "${packages[@]}" 2>/dev/null || true)
	for package in "${packages[@]}"; do
		[[ $'\n'$installed$'\n' == *$'\n'"$package installed"$'\n'* ]] || missing+=("$package")
	done
	version=$(qemu_version)
	if [ -z "$version" ]; then
		missing+=(qemu-system-x86)
	elif [ -z "${WRENN_KEEP_QEMU:-}" ] && ! version_at_least "$version" "$qemu_wanted" && newer_qemu_exists; then
		missing+=(qemu-system-x86)
		reasons+=("QEMU $version is here; $qemu_wanted or later is wanted")
	fi
	have_postgres || missing+=(postgresql)
	if [ -n "$compat" ] && ! command -v npm >/dev/null; then
		missing+=(nodejs npm)
	fi
	find_go >/dev/null || missing+=(golang-go)
}

# newer_qemu_exists: whether the distribution has a QEMU that is new enough.
newer_qemu_exists() { [ "$codename" = bookworm ] || version_at_least "$(candidate qemu-system-x86)" "1:$qemu_wanted"; }

candidate() { apt-cache policy "$1" 2>/dev/null | sed -n 's/^  Candidate: //p' | sed 's/^(none)$//'; }

# debian_mirror prints the address that this host's apt has for its release.
debian_mirror() {
	local files=(/etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources)
	(cat "${files[@]}" 2>/dev/null || true) | awk -v suite="$codename" '
		/^deb[ \t]/ { gsub(/\[[^]]*\]/, ""); if ($3 == suite) { print $2; exit } }
		/^URIs:/ { uri = $2 }
		/^Suites:/ { for (i = 2; i <= NF; i++) if ($i == suite && uri != "") { print uri; exit } }'
}

# enable_backports lets apt take packages from Debian's backports when asked to.
enable_backports() {
	local mirror
	if grep -qsE "^[^#]*$codename-backports" /etc/apt/sources.list /etc/apt/sources.list.d/*; then
		return
	fi
	mirror=$(debian_mirror)
	[ -n "$mirror" ] || die "no source for $codename found in /etc/apt; add $codename-backports by hand and try again"
	say "setup: adding Debian's backports to this machine's package sources, in $backports_file:"
	say "setup: $codename itself has no QEMU $qemu_wanted and no Go that can build this. Only packages asked for come from there."
	as_root tee "$backports_file" >/dev/null <<-END
		# Written by Wrenn's scripts/setup.sh, for QEMU $qemu_wanted or later.
		Types: deb
		URIs: $mirror
		Suites: $codename-backports
		Components: main
		Signed-By: $keyring
	END
	added=yes
}

# newest_go_package prints the package with the newest Go that can fetch the
# right one, or nothing.
newest_go_package() {
	local version
	version=$(candidate golang-go)
	version=${version#*:}
	if [ "$codename" = bookworm ]; then
		say golang-go # from backports
	elif [ -n "$version" ] && version_at_least "${version%%[~+-]*}" 1.21; then
		say golang-go
	else
		apt-cache pkgnames golang-1. | sed -n 's/^golang-1\.\([0-9]*\)-go$/\1/p' | sort -n |
			awk '$1 >= 21 { newest = $1 } END { if (newest) print "golang-1." newest "-go" }'
	fi
}

# without_cluster runs a command while PostgreSQL's packages are told not to
# make a server of their own: Wrenn runs its own, in its data directory.
# Servers that are there already are left alone.
without_cluster() {
	local conf=/etc/postgresql-common/createcluster.d/zz-wrenn-setup.conf status=0
	as_root mkdir -p "$(dirname "$conf")"
	echo 'create_main_cluster = false' | as_root tee "$conf" >/dev/null
	"$@" || status=$?
	as_root rm -f "$conf"
	return "$status"
}

# apt_install installs packages. It records the packages and accounts that were
# not there before, so that uninstall can remove them. An apt that is interrupted
# has installed a part: packages are therefore recorded before it begins, and
# accounts also when it fails.
apt_install() {
	local status=0
	LC_ALL=C as_root apt-get install -s --no-install-recommends "$@" | new_packages | as_root tee -a "$record/packages" >/dev/null
	accounts_before=$(accounts)
	trap note_accounts EXIT
	with_progress "installing packages" \
		as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" || status=$?
	note_accounts
	trap - EXIT
	return "$status"
}

# new_packages reads the output of apt-get -s and prints the packages that would
# be installed and are not installed yet; those have no version in brackets.
new_packages() { sed -n 's/^Inst \([^ :]*\)[^ ]* (.*/\1/p'; }

note_accounts() { LC_ALL=C comm -13 <(printf '%s\n' "$accounts_before") <(accounts) | as_root tee -a "$record/accounts" >/dev/null; }

# accounts prints the users and groups of this machine.
accounts() { (getent passwd | sed 's/^\([^:]*\):.*/user \1/'; getent group | sed 's/^\([^:]*\):.*/group \1/') | LC_ALL=C sort -u; }

# keep_qemu stops before a QEMU that is here moves to another version, unless
# that is wanted. Arguments are those of the apt-get install to come.
keep_qemu() {
	local moves
	[ "${WRENN_YES:-}" != 1 ] || return 0
	moves=$(LC_ALL=C apt-get install -s --no-install-recommends "$@" 2>/dev/null |
		sed -nE 's/^Inst (qemu[^ ]*) \[([^]]*)\] \(([^ ]*) .*/  \1 from \2 to \3/p; s/^Remv ([^ ]*).*/  \1 would be removed/p')
	[ -n "$moves" ] || return 0
	say "setup: this machine has a QEMU already, and installing ${missing[*]} would change it:"
	say "$moves"
	say "setup: other virtual machines here may depend on it, so nothing was installed. Set one of"
	say "  WRENN_YES=1        continue: install the newer version"
	say "  WRENN_KEEP_QEMU=1  continue with the installed QEMU; before $qemu_wanted that is for one tenant only"
	[ -z "$added" ] || as_root rm -f "$backports_file"
	exit 1
}
added='' # set where this run has added backports

install_missing() {
	local package plain=() backported=()
	for package in "${missing[@]}"; do
		case $package in
		golang-go)
			package=$(newest_go_package)
			[ -n "$package" ] || die "apt has no Go that is new enough; install Go $(go_needed "$root") by hand"
			;;&
		golang-go | qemu-system-x86)
			if [ "$codename" = bookworm ]; then backported+=("$package"); else plain+=("$package"); fi
			;;
		*) plain+=("$package") ;;
		esac
	done
	[ ${#plain[@]} = 0 ] || keep_qemu "${plain[@]}"
	[ ${#backported[@]} = 0 ] || keep_qemu -t "$codename-backports" "${backported[@]}"
	as_root mkdir -p "$record"
	say "setup: installing ${plain[*]}${backported[*]:+ and, from backports, ${backported[*]}}"
	[ ${#plain[@]} = 0 ] || without_cluster apt_install "${plain[@]}"
	[ ${#backported[@]} = 0 ] || apt_install -t "$codename-backports" "${backported[@]}"
}

find_missing
if [ ${#missing[@]} = 0 ]; then
	exit 0
fi
for reason in "${reasons[@]}"; do say "setup: $reason"; done
if [ -n "$check" ]; then
	say "missing: ${missing[*]}"
	exit 1
fi
case $os in
debian | ubuntu) ;;
*) say "setup: $os is not tested; going on as on Debian" ;;
esac
if [ "$codename" = bookworm ] && [[ " ${missing[*]} " == *" qemu-system-x86 "* || " ${missing[*]} " == *" golang-go "* ]]; then
	enable_backports
fi
say "setup: missing ${missing[*]}"
with_progress "reading package lists" as_root apt-get update -q
install_missing
find_missing
[ ${#missing[@]} = 0 ] || die "still missing after installation: ${missing[*]}"
version_at_least "$(qemu_version)" "$qemu_wanted" ||
	say "setup: QEMU $(qemu_version) is the newest here; use it for one tenant only ($qemu_wanted or later keeps the shared memory file read-only)"
say "setup: done"
