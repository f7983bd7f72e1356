package doctor

import (
	"os"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/host/image"
)

// command returns the wrenn command of this installation as it has to be typed
// here, with the data directory where that is not the default.
func (c Config) command(args string) string {
	program := c.Program
	if program == "" {
		program = "wrenn"
	}
	text := Quote(program) + " " + args
	if c.DataDirFlag != "" {
		text += " --data-dir " + Quote(c.DataDirFlag)
	}
	return text
}

// install returns the command that installs packages with apt. A fresh machine
// has no package lists yet.
func install(packages string) string {
	return "apt-get update && apt-get install -y --no-install-recommends " + packages
}

// installQEMU returns the command that installs a QEMU that is new enough.
// Debian 12 has one only in its backports, which are added if apt does not
// know them.
func installQEMU() string {
	const pkg = "qemu-system-x86"
	if osField(osRelease, "VERSION_CODENAME") != "bookworm" {
		return install(pkg)
	}
	command := install(pkg + " -t bookworm-backports")
	if image.HasSuite("/etc/apt", "bookworm-backports") {
		return command
	}
	mirror := image.HostMirror("/etc/apt")
	if mirror == "" {
		return ""
	}
	return "echo 'deb " + mirror + " bookworm-backports main' >/etc/apt/sources.list.d/bookworm-backports.list && " + command
}

// asTyped returns a fix as this user has to type it: with sudo where the user
// is not root.
func asTyped(fix string, uid int) string {
	switch {
	case fix == "" || uid == 0 || strings.HasPrefix(fix, "sudo ") || strings.HasPrefix(fix, "export "):
		return fix
	case strings.ContainsAny(fix, ";&|>"):
		return "sudo sh -c " + Quote(fix)
	default:
		return "sudo " + fix
	}
}

// Quote writes a word as a shell has to read it.
func Quote(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:=@%", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// finish makes the fixes of all checks ready to be typed.
func finish(checks []Check) []Check {
	for i := range checks {
		checks[i].Fix = asTyped(checks[i].Fix, os.Geteuid())
	}
	return checks
}
