package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/client"
)

// TestBuildViewOnATerminal: the last line tells the step, fits into the terminal, and is
// never a part of the log.
func TestBuildViewOnATerminal(t *testing.T) {
	var out bytes.Buffer
	a := &App{io: IO{Err: &out, Progress: true, Width: func() int { return 30 }}}
	v := a.newBuildView(&out, false)
	v.start()
	for _, e := range []*client.BuildEvent{
		{Progress: &client.TemplateBuildProgress{Done: 1, Total: 2}},
		{Log: &client.TemplateBuildLog{Step: "1", Level: "info", Message: "[1/2] RUN " + strings.Repeat("x", 100)}},
		{Log: &client.TemplateBuildLog{Step: "1", Level: "info", Message: "out\x1b[2Jput"}},
	} {
		if err := v.show(e); err != nil {
			t.Fatal(err)
		}
	}
	v.end()
	text := out.String()
	if !strings.HasSuffix(text, "\r\x1b[K") {
		t.Errorf("the last line stays: %q", text)
	}
	if !strings.Contains(text, "step 1 of 2") || !strings.Contains(text, "\n\r\x1b[K") {
		t.Errorf("got %q, want the step after each line", text)
	}
	if !strings.Contains(text, "\r\x1b[K  out?[2Jput\n") {
		t.Errorf("got %q, want the line without characters that steer the terminal", text)
	}
	for _, piece := range strings.Split(text, "\r\x1b[K") {
		if status, ok := strings.CutPrefix(piece, "\x1b[2m"); ok {
			status, _, _ = strings.Cut(status, "\x1b")
			if n := len([]rune(status)); n > 29 {
				t.Errorf("the status %q has %d characters, want at most 29", status, n)
			}
		}
	}
}

// TestBuildViewOfAnImport: the last line tells the bytes of an import in place of steps.
func TestBuildViewOfAnImport(t *testing.T) {
	for want, p := range map[string]client.TemplateBuildProgress{
		"pull debian:13: 5.0 MiB of 10.0 MiB": {Stage: client.BuildImport, Detail: "pull debian:13", Done: 5 << 20, Total: 10 << 20},
		"unpack: 5.0 MiB":                     {Stage: client.BuildImport, Detail: "unpack", Done: 5 << 20},
		"resolve":                             {Stage: client.BuildImport, Detail: "resolve"},
		"step 1 of 2":                         {Stage: "building", Detail: "1", Done: 1, Total: 2},
	} {
		var out bytes.Buffer
		a := &App{io: IO{Err: &out, Progress: true, Width: func() int { return 80 }}}
		v := a.newBuildView(&out, false)
		v.start()
		if err := v.show(&client.BuildEvent{Progress: &p}); err != nil {
			t.Fatal(err)
		}
		v.end()
		if !strings.Contains(out.String(), want) {
			t.Errorf("got %q, want %q in it", out.String(), want)
		}
	}
}

func TestBuildViewElsewhere(t *testing.T) {
	var out bytes.Buffer
	a := &App{io: IO{Err: &out}}
	v := a.newBuildView(&out, false)
	v.start()
	for _, e := range []client.TemplateBuildLog{
		{Step: "1", Level: "info", Message: "[1/1] RUN make"}, {Step: "1", Level: "info", Message: "cc"},
		{Level: "warn", Message: "careful"}, {Step: "1", Level: "info", Message: "CACHED [1/1] RUN make"},
	} {
		if err := v.show(&client.BuildEvent{Log: &e}); err != nil {
			t.Fatal(err)
		}
	}
	v.end()
	if want := "[1/1] RUN make\n  cc\nwarning: careful\nCACHED [1/1] RUN make\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}
