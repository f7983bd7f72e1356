package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// look runs a line of bash with the checks of scripts/quickstart.sh. It returns
// the output, and whether the line succeeded.
func look(t *testing.T, env []string, line string) (out string, ok bool) {
	t.Helper()
	cmd := exec.Command("bash", "-euc", "set -o pipefail; cd ../..; . scripts/lib.sh; . scripts/look.sh; "+line)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, env...)
	text, err := cmd.CombinedOutput()
	return string(text), err == nil
}

func TestQuickstartFindsItsAddress(t *testing.T) {
	for _, c := range []struct{ listen, url, wantListen, wantURL string }{
		{"", "", "127.0.0.1:8080", "http://127.0.0.1:8080"},
		{"127.0.0.1:8090", "", "127.0.0.1:8090", "http://127.0.0.1:8090"},
		{"0.0.0.0:80", "", "0.0.0.0:80", "http://127.0.0.1:80"},
		{"[::1]:8090", "", "[::1]:8090", "http://[::1]:8090"},
		{":8090", "", ":8090", "http://127.0.0.1:8090"},
		{"", "http://127.0.0.1:9000/", "127.0.0.1:9000", "http://127.0.0.1:9000"},
		{"", "localhost:9000", "localhost:9000", "http://localhost:9000"},
		{"0.0.0.0:9000", "https://box.example", "0.0.0.0:9000", "https://box.example"},
	} {
		out, ok := look(t, []string{"WRENN_LISTEN=" + c.listen, "WRENN_URL=" + c.url}, `look_address; echo "$listen $url"`)
		if want := c.wantListen + " " + c.wantURL + "\n"; !ok || out != want {
			t.Errorf("WRENN_LISTEN=%s WRENN_URL=%s: got %q, want %q", c.listen, c.url, out, want)
		}
	}
	if out, ok := look(t, []string{"WRENN_LISTEN=8090"}, "look_address"); ok || !strings.Contains(out, "HOST:PORT") {
		t.Errorf("a port alone: got %q, want to be told HOST:PORT", out)
	}
}

func TestQuickstartNamesWhereOurServerListens(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("it asks for root's view of other processes")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const free = "127.0.0.1:1"
	for _, c := range []struct {
		server int
		want   string
	}{
		{os.Getpid(), "listens on " + l.Addr().String() + ", not on " + free + ": run 'make stop' first, or set WRENN_LISTEN=" + l.Addr().String() + "\n"},
		{os.Getppid(), "does not serve yet, not on " + free + ": run 'make stop' first\n"},
	} {
		line := fmt.Sprintf("our_server() { echo %d; }; data=/nowhere; look_address; look_port", c.server)
		if out, ok := look(t, []string{"WRENN_LISTEN=" + free}, line); ok || !strings.HasSuffix(out, c.want) {
			t.Errorf("our server at another address: got %q, want it to end with %q", out, c.want)
		}
	}
}

func TestQuickstartNamesWhoHasThePort(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("it asks for root's view of other processes")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	env := []string{"WRENN_LISTEN=" + l.Addr().String()}
	line := "data='" + t.TempDir() + "'; look_address; look_port; echo free"
	out, ok := look(t, env, line)
	for _, want := range []string{l.Addr().String(), fmt.Sprintf("(process %d)", os.Getpid()), "WRENN_LISTEN=127.0.0.1:", "make quickstart"} {
		if ok || !strings.Contains(out, want) {
			t.Errorf("a port that this process has: got %q, want %q in it", out, want)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if out, ok := look(t, env, line); !ok || out != "free\n" {
		t.Errorf("a free port: got %q", out)
	}
	if out, ok := look(t, []string{"WRENN_LISTEN=192.0.2.200:80"}, line); ok || !strings.Contains(out, "an address of this machine") {
		t.Errorf("another machine's address: got %q", out)
	}
}

func TestQuickstartSaysWhatIsShort(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "made yet")
	line := `look_space "` + dir + `" 999999999 images "set WRENN_DATA_DIR"`
	if out, ok := look(t, nil, line); ok || !strings.Contains(out, "images need 999999999 MB") || !strings.Contains(out, "set WRENN_DATA_DIR") {
		t.Errorf("too little room: got %q, want what to set", out)
	}
	if out, ok := look(t, []string{"WRENN_YES=1"}, line); !ok || !strings.HasPrefix(out, "warning: ") {
		t.Errorf("with WRENN_YES=1: got %q, want a warning", out)
	}
	if out, ok := look(t, nil, `look_space "`+dir+`" 1 images x`); !ok || out != "" {
		t.Errorf("enough room: got %q, want nothing", out)
	}
}

// TestRootSeesTheUsersSettings looks at the list that is handed to sudo.
func TestRootSeesTheUsersSettings(t *testing.T) {
	env := []string{"WRENN_LISTEN=x", "WRENN_DEBIAN_MIRROR=x", "http_proxy=x", "HTTPS_PROXY=x", "no_proxy=x", "GOPROXY=x", "DATABASE_URL=x", "LD_PRELOAD_NOT=x"}
	out, ok := look(t, env, "carried")
	got := strings.Split(strings.TrimSpace(out), ",")
	seen := map[string]bool{}
	for _, name := range got {
		seen[name] = true
	}
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		if want := name != "LD_PRELOAD_NOT"; seen[name] != want {
			t.Errorf("%s is handed on: %t, want %t (%q, %t)", name, seen[name], want, out, ok)
		}
	}
}

func TestQuickstartBuildsRunscWhereItIsMissed(t *testing.T) {
	for _, c := range []struct {
		doctor, runsc string
		want          bool
	}{
		{"warn  gvisor         runsc is not built", "", true},
		{"ok    gvisor         runsc v1 (abababababab), built by make runsc", "", true}, // it may be out of date
		{"ok    gvisor         runsc is not built", "", false},
		{"warn  gvisor         runsc is not built", "/usr/local/bin/runsc", false},
	} {
		_, ok := look(t, []string{"WRENN_RUNSC=" + c.runsc}, "wants_runsc <<<'"+c.doctor+"'")
		if ok != c.want {
			t.Errorf("after %q with WRENN_RUNSC=%s: runsc is built: %t, want %t", c.doctor, c.runsc, ok, c.want)
		}
	}
}

func TestQuickstartNamesTheRuntime(t *testing.T) {
	const hosts = `[
  {
    "isolation": "of the host",
    "pools": [ { "runtime": "of a pool" } ],
    "runtimes": [
      {
        "runtime": "gvisor",
        "driver_version": "v1 (ab)",
        "reason": "no usable KVM: it \"crawls\"; gVisor runs code at native speed",
        "isolation": "userspace_kernel",
        "multi_tenant": true
      },
      {
        "runtime": "microvm",
        "reason": "another one",
        "isolation": "process"
      }
    ]
  }
]`
	const want = "runtime: gvisor (isolation userspace_kernel). Reason: no usable KVM: it \"crawls\"; gVisor runs code at native speed\n"
	if out, ok := look(t, nil, "runtime_line <<'END'\n"+hosts+"\nEND\n"); !ok || out != want {
		t.Errorf("got %q, want %q", out, want)
	}
	if out, ok := look(t, nil, "runtime_line <<<'[]'"); !ok || out != "" {
		t.Errorf("without a host: got %q, want nothing", out)
	}
}
