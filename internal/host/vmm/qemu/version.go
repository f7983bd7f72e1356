package qemu

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// version is a QEMU release.
type version struct{ major, minor, micro int }

func (v version) atLeast(major, minor int) bool {
	return v.major > major || v.major == major && v.minor >= minor
}

// memoryReadOnly reports whether this version can map a memory file that it may
// not write.
func (v version) memoryReadOnly() bool { return v.atLeast(8, 2) }

// loadsFiles reports whether this version knows migration from a file by name.
func (v version) loadsFiles() bool { return v.atLeast(8, 2) }

func (v version) String() string { return fmt.Sprintf("%d.%d.%d", v.major, v.minor, v.micro) }

var versionLine = regexp.MustCompile(`QEMU emulator version (\d+)\.(\d+)\.(\d+)`)

// parseVersion reads the first line that `qemu-system-x86_64 --version` prints.
func parseVersion(out []byte) (version, error) {
	m := versionLine.FindSubmatch(out)
	if m == nil {
		return version{}, fault.New(fault.Unsupported, "vmm_version", "cannot tell the version of QEMU from %q", firstLine(out))
	}
	var n [3]int
	for i := range n {
		n[i], _ = strconv.Atoi(string(m[i+1]))
	}
	return version{n[0], n[1], n[2]}, nil
}

func firstLine(b []byte) string {
	for i, c := range b {
		if c == '\n' {
			b = b[:i]
			break
		}
	}
	return string(b[:min(len(b), 200)])
}

func queryVersion(ctx context.Context, binary string) (version, error) {
	out, err := exec.CommandContext(ctx, binary, "--version").Output()
	if err != nil {
		return version{}, fault.Wrap(err, fault.Unsupported, "vmm_missing",
			"QEMU (%s) cannot be run; install qemu-system-x86", binary)
	}
	return parseVersion(out)
}
