package cli

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/client"
	"github.com/wrenn-dev/wrenn/internal/untrusted"
)

func TestDurationsAsPeopleTypeThem(t *testing.T) {
	for typed, want := range map[string]time.Duration{
		"0": 0, "10": 10 * time.Second, "90s": 90 * time.Second, "10m": 10 * time.Minute, "1h30m": 90 * time.Minute,
		"1d": 24 * time.Hour, "2w": 14 * 24 * time.Hour, "1d12h": 36 * time.Hour, "1.5h": 90 * time.Minute, "500ms": time.Second / 2, "1H": time.Hour,
	} {
		if got, err := parseDuration(typed); err != nil || got != want {
			t.Errorf("%q is %v (%v), want %v", typed, got, err, want)
		}
	}
	for _, typed := range []string{"", "-1", "-1s", "soon", "1y", "m", "1 h x", "1e3", "1..5s", "99999999999999999999d", "Inf", "0x10"} {
		if got, err := parseDuration(typed); err == nil {
			t.Errorf("%q is %v, want an error", typed, got)
		}
	}
}

func TestSizesAsPeopleTypeThem(t *testing.T) {
	for typed, want := range map[string]int{
		"512": 512, "512M": 512, "512m": 512, "512Mi": 512, "512MiB": 512, "512MB": 512, "1G": 1024, "1GB": 1024, "1Gi": 1024,
		"2 GiB": 2048, "1.5G": 1536, "1T": 1 << 20, "1024K": 1, "0.5G": 512,
	} {
		var f sizeFlag
		if err := f.Set(typed); err != nil || int(f) != want {
			t.Errorf("%q is %d MiB (%v), want %d", typed, f, err, want)
		}
	}
	for _, typed := range []string{"", "0", "-1", "lots", "1.5", "1P", "G", "512iB", "512B", "512ib", "1K", "1e3", "999999999999T"} {
		var f sizeFlag
		if err := f.Set(typed); err == nil {
			t.Errorf("%q is %d MiB, want an error", typed, f)
		}
	}
}

// TestLostConnectionSaysThatTheOutcomeIsUnknown kills the connection of a request: the message
// must say that the outcome is unknown, not the name of a Go error.
func TestLostConnectionSaysThatTheOutcomeIsUnknown(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer server.Close()
	var stderr strings.Builder
	a := New(IO{In: strings.NewReader(""), Out: io.Discard, Err: &stderr, LookupEnv: func(string) (string, bool) { return "", false }})
	if code := a.Run(t.Context(), []string{"--url", server.URL, "create"}); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	for _, want := range []string{"ended the connection before it answered; the request may have taken effect", "check with `wrenn ls`"} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("stderr %q, want %q in it", stderr.String(), want)
		}
	}
}

// TestHintsNameTheSandbox: the hint of a guest that does not answer says how to keep
// its memory, even if the server asks the client to wait for long.
func TestHintsNameTheSandbox(t *testing.T) {
	a := New(IO{LookupEnv: func(string) (string, bool) { return "", false }})
	e := &client.Error{Status: 503, Code: "guest_unresponsive", RetryAfter: time.Second}
	if hint := a.hintFor(e); !strings.Contains(hint, "`wrenn pause --force ID`") {
		t.Errorf("without a sandbox on the command line: got %q, want ID in the command", hint)
	}
	a.subject = "sandbox1"
	if hint := a.hintFor(e); !strings.Contains(hint, "`wrenn pause --force sandbox1`") {
		t.Errorf("with a sandbox on the command line: got %q, want its id in the command", hint)
	}
}

// TestShowEndRounds: a sandbox that has just been used shows its whole idle timeout.
func TestShowEndRounds(t *testing.T) {
	now := time.Now()
	for left, want := range map[time.Duration]string{
		5*time.Minute - 200*time.Millisecond: "in 5m",
		5*time.Minute - 2*time.Second:        "in 4m",
		800 * time.Millisecond:               "in 1s",
	} {
		end := now.Add(left)
		sb := client.Sandbox{Clocks: client.Clocks{IdleExpiresAt: &end}}
		if got := showEnd(sb, now); got != want {
			t.Errorf("%s left: got %q, want %q", left, got, want)
		}
	}
}

// TestJSONSteersNoTerminal: a name may have characters that steer a terminal, which JSON
// allows in strings. They come as escapes, and programs read the name as it is.
func TestJSONSteersNoTerminal(t *testing.T) {
	name := "a\u009b2J\u202eb\x7f\U000e0001ä\u2028<\"\\"
	for how, print := range map[string]func(*App) error{
		"an entry": func(a *App) error { a.json = true; return a.printEntry(&client.FileEntry{Path: name}, nil) },
		"a change": func(a *App) error { a.json = true; return a.printChange(client.FileChange{Path: name}) },
	} {
		lines := printedAt(t, 80, print)
		text := strings.Join(lines, "\n")
		if strings.ContainsFunc(strings.Join(lines, ""), untrusted.Steers) || !strings.Contains(text, `\u009b2J\u202eb\u007f\udb40\udc01ä`) {
			t.Errorf("%s: got %q, want escapes", how, text)
		}
		var got struct {
			Path string `json:"path"`
		}
		if err := json.Unmarshal([]byte(text), &got); err != nil || got.Path != name {
			t.Errorf("%s: a program reads %q (%v), want %q", how, got.Path, err, name)
		}
	}
}
