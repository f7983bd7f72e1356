package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/wrenn-dev/wrenn/internal/untrusted"
)

// printJSON prints v for programs.
func (a *App) printJSON(v any) error { return a.encode(v, "  ") }

// encode prints v as JSON, on one line if indent is empty. It escapes characters that
// steer a terminal, as names in a sandbox may have: programs read the same value.
func (a *App) encode(v any, indent string) error {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := a.io.Out.Write(escaped(out.Bytes()))
	return err
}

// escaped returns JSON with escape sequences in place of characters that steer a
// terminal. Those outside of strings are the line feeds of the encoder, and those of
// ASCII in strings it has escaped, except DEL.
func escaped(text []byte) []byte {
	steers := func(r rune) bool { return r >= '\x7f' && untrusted.Steers(r) }
	if !bytes.ContainsFunc(text, steers) {
		return text
	}
	out := make([]byte, 0, len(text)+64)
	for _, r := range string(text) {
		switch {
		case !steers(r):
			out = utf8.AppendRune(out, r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	return out
}

// note prints a line to stderr, beside the result.
func (a *App) note(format string, args ...any) {
	fmt.Fprintf(a.io.Err, format+"\n", args...)
}

// printable replaces characters that control a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if untrusted.Steers(r) {
			return '?'
		}
		return r
	}, s)
}

// showDuration shows a duration with about three digits.
func showDuration(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second && d%time.Second != 0:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	default:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
}

// ShowAge shows a span by its largest unit: "12s", "3m", "2h", "5d".
func ShowAge(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}

// showCPUs shows a number of virtual CPUs.
func showCPUs(n int) string {
	if n == 1 {
		return "1 CPU"
	}
	return fmt.Sprintf("%d CPUs", n)
}

// showMemory shows a size given in MiB.
func showMemory(mb int) string {
	if mb >= 1024 && mb%1024 == 0 {
		return fmt.Sprintf("%d GiB", mb/1024)
	}
	return fmt.Sprintf("%d MiB", mb)
}

// showShape formats the virtual CPUs and memory of a sandbox: "2x512M", "8x16G".
func showShape(vcpus, memoryMB int) string {
	if memoryMB >= 1024 && memoryMB%1024 == 0 {
		return fmt.Sprintf("%dx%dG", vcpus, memoryMB/1024)
	}
	return fmt.Sprintf("%dx%dM", vcpus, memoryMB)
}

// showBytes shows a size with its unit.
func showBytes(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, prefix := float64(n)/unit, 0
	for ; value >= unit && prefix < 3; prefix++ {
		value /= unit
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGT"[prefix])
}
