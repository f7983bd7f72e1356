package e2e

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"io"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/client"
)

func testExec(t *testing.T, s *server) {
	in := small
	in.Env = map[string]string{"FROM_SANDBOX": "yes"}
	sb := create(t, s.Client, in)
	path := "/v1/sandboxes/" + sb.ID + "/exec"
	for name, c := range map[string]struct {
		in             map[string]any
		stdout, stderr string
		code           float64
	}{
		"output": {map[string]any{"cmd": "echo", "args": []string{"hello"}}, "hello\n", "", 0},
		"args as they are": {
			map[string]any{"cmd": "printf", "args": []string{"[%s]", "$HOME", "*", "", "a b", "'\"\\", "\n", "ü"}},
			"[$HOME][*][][a b]['\"\\][\n][ü]", "", 0,
		},
		"code and stderr": {map[string]any{"cmd": "sh", "args": []string{"-c", "echo out; echo err >&2; exit 7"}}, "out\n", "err\n", 7},
		"env":             {map[string]any{"cmd": "sh", "args": []string{"-c", "echo $FROM_SANDBOX $A"}, "env": map[string]string{"A": "b c"}}, "yes b c\n", "", 0},
		"cwd":             {map[string]any{"cmd": "pwd", "cwd": "/usr/share"}, "/usr/share\n", "", 0},
		"user":            {map[string]any{"cmd": "id", "args": []string{"-un"}, "user": "nobody"}, "nobody\n", "", 0},
		"stdin":           {map[string]any{"cmd": "wc", "args": []string{"-l"}, "stdin": "a\nb\n"}, "2\n", "", 0},
		"signal":          {map[string]any{"cmd": "sh", "args": []string{"-c", "kill -9 $$"}}, "", "", 137},
		"grandchild":      {map[string]any{"cmd": "sh", "args": []string{"-c", "sleep 600 & echo done"}}, "done\n", "", 0},
		"python":          {map[string]any{"cmd": "python3", "args": []string{"-c", "print(6*7)"}}, "42\n", "", 0},
	} {
		got := call(t, s.Client, "POST", path, c.in).object(t, 200)
		if got["stdout"] != c.stdout || got["stderr"] != c.stderr || got["exit_code"] != c.code || got["encoding"] != "utf-8" {
			t.Errorf("%s: %v", name, got)
		}
		if got["sandbox_id"] != sb.ID || got["cmd"] != c.in["cmd"] {
			t.Errorf("%s: %v", name, got)
		}
	}
	execBinary(t, s, path)
	execTimeout(t, s, sb.ID)
	execStreamed(t, s, sb.ID)
	execInput(t, s, sb.ID)
	execKillsEverything(t, s, path)
	call(t, s.Client, "POST", path, `{"cmd":"no-such-program"}`).wantError(t, 400, "command_not_found")
}

// execKillsEverything runs commands that kill every process that they can,
// including the guest's agent. They end by a signal, and the next command finds
// an agent.
func execKillsEverything(t *testing.T, s *server, path string) {
	for _, script := range []string{"/bin/kill -9 -1; sleep 600", "kill -9 -1; sleep 600"} {
		got := call(t, s.Client, "POST", path, map[string]any{"cmd": "sh", "args": []string{"-c", script}}).object(t, 200)
		if got["exit_code"] != 137.0 || got["signal"] != "killed" {
			t.Errorf("%s: %v, want signal killed", script, got)
		}
		after := call(t, s.Client, "POST", path, map[string]any{"cmd": "echo", "args": []string{"alive"}}).object(t, 200)
		if after["stdout"] != "alive\n" {
			t.Errorf("after %s: %v", script, after)
		}
	}
}

// execBinary checks that output that is not UTF-8 is sent as base64.
func execBinary(t *testing.T, s *server, path string) {
	got := call(t, s.Client, "POST", path, map[string]any{"cmd": "printf", "args": []string{`\377\000\001`}}).object(t, 200)
	raw, err := base64.StdEncoding.DecodeString(got["stdout"].(string))
	check(t, err)
	if got["encoding"] != "base64" || !bytes.Equal(raw, []byte{0xff, 0, 1}) {
		t.Errorf("binary output came as %v", got)
	}
}

// execTimeout checks that a command that takes too long is killed with all its
// processes, that its output is not lost, and that the sandbox is unharmed.
func execTimeout(t *testing.T, s *server, id string) {
	a := call(t, s.Client, "POST", "/v1/sandboxes/"+id+"/exec", map[string]any{
		"cmd": "sh", "args": []string{"-c", "echo begun; sleep 3600 & sleep 3600"}, "timeout_sec": 2,
	})
	a.wantError(t, 504, "exec_timeout")
	details := a.object(t, 504)["error"].(map[string]any)["details"].(map[string]any)
	if details["stdout"] != "begun\n" {
		t.Errorf("the partial output is %v", details)
	}
	if got := sh(t, s.Client, id, "ps ax | grep -c '[s]leep 3600' || true"); got != "0" {
		t.Errorf("%s processes outlived the command's timeout", got)
	}
}

// execStreamed checks that output arrives as it is written, and that it may
// exceed the limit of a whole answer.
func execStreamed(t *testing.T, s *server, id string) {
	var out, diag bytes.Buffer
	res, err := s.ExecStream(t.Context(), id, client.ExecRequest{
		Cmd: "sh", Args: []string{"-c", "head -c 9000000 /dev/zero; echo err >&2; exit 3"},
	}, &out, &diag)
	check(t, err)
	if res.ExitCode != 3 || out.Len() != 9_000_000 || diag.String() != "err\n" {
		t.Errorf("code %d, %d bytes, %q", res.ExitCode, out.Len(), diag.String())
	}
	whole, err := s.Exec(t.Context(), id, client.ExecRequest{Cmd: "head", Args: []string{"-c", "9000000", "/dev/zero"}})
	check(t, err)
	if !whole.StdoutTruncated || len(whole.Stdout) >= 9_000_000 {
		t.Errorf("%d bytes, truncated: %v", len(whole.Stdout), whole.StdoutTruncated)
	}
	firstLineComesFirst(t, s, id)
}

// execInput checks that stdin reaches the command while it runs, that it may
// exceed the limit of a request, and that a command that reads none of it ends.
func execInput(t *testing.T, s *server, id string) {
	t.Helper()
	in, stdin := io.Pipe()
	out, stdout := io.Pipe()
	go func() {
		defer stdin.Close()
		lines := bufio.NewReader(out)
		for _, line := range []string{"one\n", "two\n"} {
			_, _ = io.WriteString(stdin, line)
			if got, err := lines.ReadString('\n'); got != "got "+line {
				t.Errorf("the answer to %q is %q (%v)", line, got, err)
			}
		}
		go func() { _, _ = io.Copy(io.Discard, lines) }()
		_, _ = stdin.Write(make([]byte, 3_000_000))
	}()
	res, err := s.ExecStream(t.Context(), id, client.ExecRequest{
		Cmd: "sh", Args: []string{"-c", `read a; echo got $a; read b; echo got $b; test $(wc -c) = 3000000`}, Input: in,
	}, stdout, io.Discard)
	check(t, err)
	stdout.Close()
	if res.ExitCode != 0 {
		t.Errorf("the command ended with %d: it got another number of bytes", res.ExitCode)
	}
	for _, cmd := range []string{"true", "no-such-program"} {
		open, _ := io.Pipe()
		_, err := s.Exec(t.Context(), id, client.ExecRequest{Cmd: cmd, Input: open})
		if cmd == "true" {
			check(t, err)
		} else {
			wantFailure(t, err, 400, "command_not_found")
		}
	}
}

// firstLineComesFirst runs a command that ends only after its first line has
// been read.
func firstLineComesFirst(t *testing.T, s *server, id string) {
	seen := writerFunc(func(p []byte) (int, error) {
		if strings.Contains(string(p), "waiting") {
			sh(t, s.Client, id, "touch /tmp/go-on")
		}
		return len(p), nil
	})
	res, err := s.ExecStream(t.Context(), id, client.ExecRequest{
		Cmd: "sh", Args: []string{"-c", "echo waiting; until test -e /tmp/go-on; do sleep 0.05; done"}, Timeout: patience,
	}, seen, seen)
	check(t, err)
	if res.ExitCode != 0 {
		t.Errorf("ended with %d", res.ExitCode)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
