package gvisor

import (
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/untrusted"
)

// panicBytes bounds the report of a sentry that crashed.
const panicBytes = 2 << 10

// panicOf returns the beginning of the report of a crashed sentry as one line, or
// nothing.
func panicOf(dir string) string {
	f, err := os.Open(filepath.Join(dir, "panic.log"))
	if err != nil {
		return ""
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, panicBytes))
	if err != nil {
		return ""
	}
	return untrusted.Line(strings.TrimSpace(string(text)), panicBytes)
}
