package cli

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// slowReader gives a kibibyte each quarter of a second, for a time.
type slowReader struct{ left int }

func (r *slowReader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	r.left--
	time.Sleep(250 * time.Millisecond)
	return copy(p, make([]byte, 1024)), nil
}

// TestProgress: a terminal has one line that is replaced, and is empty at the end. Elsewhere
// there is a line each ten seconds, and none for a reader of JSON.
func TestProgress(t *testing.T) {
	const seconds = 25
	for name, c := range map[string]struct {
		terminal, json, quiet bool
		total                 int64
		lines                 []string // nil are those of a terminal
	}{
		"terminal":                {terminal: true, total: 4 * seconds * 1024},
		"terminal, with JSON":     {terminal: true, json: true, total: unknownSize},
		"terminal, quiet":         {terminal: true, quiet: true, lines: []string{}},
		"no terminal":             {total: 4 * seconds * 1024, lines: []string{"13.0 KiB of 100.0 KiB, 4.0 KiB/s, 22s left", "54.0 KiB of 100.0 KiB, 4.0 KiB/s, 12s left", "95.0 KiB of 100.0 KiB, 4.0 KiB/s, 2s left"}},
		"no terminal, no size":    {total: unknownSize, lines: []string{"13.0 KiB, 4.0 KiB/s", "54.0 KiB, 4.0 KiB/s", "95.0 KiB, 4.0 KiB/s"}},
		"no terminal, wrong size": {total: 60 * 1024, lines: []string{"13.0 KiB of 60.0 KiB, 4.0 KiB/s, 12s left", "54.0 KiB of 60.0 KiB, 4.0 KiB/s, 2s left", "95.0 KiB, 4.0 KiB/s"}},
		"no terminal, with JSON":  {json: true, lines: []string{}},
		"no terminal, quiet":      {quiet: true, lines: []string{}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				a := &App{io: IO{Err: &out, Progress: c.terminal}, json: c.json, quiet: c.quiet}
				bar := a.progress(&slowReader{left: 4 * seconds}, c.total)
				if _, err := io.Copy(io.Discard, bar); err != nil {
					t.Fatal(err)
				}
				bar.end()
				if got := bar.count(); got != 4*seconds*1024 {
					t.Errorf("%d bytes were counted, want %d", got, 4*seconds*1024)
				}
				switch got := out.String(); {
				case c.lines == nil:
					shown := strings.Split(got, "\r\x1b[K")
					if strings.Contains(got, "\n") || shown[len(shown)-1] != "" || len(shown) < seconds {
						t.Errorf("the terminal got %q, want one line that is replaced and then removed", got)
					}
				case got != strings.Join(append(c.lines, ""), "\n"):
					t.Errorf("stderr has %q, want the lines %q", got, c.lines)
				}
			})
		})
	}
}

// TestShowProgress: a transfer without progress has no sensible end.
func TestShowProgress(t *testing.T) {
	for want, c := range map[string]struct {
		n, total int64
		took     time.Duration
	}{
		"0 B of 1.0 KiB, 0 B/s":                  {0, 1024, time.Second},
		"1 B of 1.0 TiB, 0 B/s, 100h0m0s left":   {1, 1 << 40, time.Hour},
		"1.0 KiB of 1.0 KiB, 1.0 KiB/s":          {1024, 1024, time.Second},
		"1.0 MiB of 2.0 MiB, 1.0 MiB/s, 1s left": {1 << 20, 2 << 20, time.Second},
	} {
		if got := showProgress(c.n, c.total, c.took); got != want {
			t.Errorf("%d of %d in %s: %q, want %q", c.n, c.total, c.took, got, want)
		}
	}
}
