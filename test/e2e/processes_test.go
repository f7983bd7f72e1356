package e2e

import (
	"bytes"
	wire "encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/coder/websocket"

	"github.com/wrenn-dev/wrenn/client"
	"github.com/wrenn-dev/wrenn/internal/control/postgres/pgtest"
)

// reading reads the output of a process from an offset on until it ends with wanted, or
// until the end of the process. It returns the output and the last record.
func reading(t testing.TB, c *client.Client, id, process string, offset int64, wanted string) (out string, last *client.Process) {
	t.Helper()
	a, err := c.Attach(t.Context(), id, process, client.AttachOptions{Offset: offset})
	check(t, err)
	defer a.Close()
	for {
		e, err := a.Next()
		check(t, err)
		if e.Process != nil {
			last = e.Process
		}
		out += string(e.Data)
		if e.Exited || wanted != "" && strings.HasSuffix(out, wanted) {
			return out, last
		}
	}
}

// startEcho starts a process that repeats the lines of its input.
func startEcho(t testing.TB, c *client.Client, id string) *client.Process {
	t.Helper()
	p, err := c.StartProcess(t.Context(), id, client.ProcessRequest{
		Cmd: "sh", Args: []string{"-c", `while read x; do echo "got $x"; done; exit 4`}, Stdin: true,
	})
	check(t, err)
	return p
}

// say gives a line to an echo and reads its answer, which begins at offset.
func say(t testing.TB, c *client.Client, id, process, line string, offset int64) (next int64) {
	t.Helper()
	check(t, c.WriteProcess(t.Context(), id, process, []byte(line+"\n")))
	want := "got " + line + "\n"
	if out, _ := reading(t, c, id, process, offset, want); out != want {
		t.Errorf("from offset %d: got %q, want %q", offset, out, want)
	}
	return offset + int64(len(want))
}

func testProcesses(t *testing.T, s *server) {
	id := create(t, s.Client, small).ID
	p := startEcho(t, s.Client, id)
	at := say(t, s.Client, id, p.ID, "one", 0)

	t.Log("a pause ends readers with a reason, and output before and after it is one")
	a, err := s.Attach(t.Context(), id, p.ID, client.AttachOptions{Offset: at})
	check(t, err)
	defer a.Close()
	_, err = a.Next() // the process
	check(t, err)
	_, err = s.Pause(t.Context(), id)
	check(t, err)
	if _, err := a.Next(); failure(t, err).Code != "sandbox_paused" {
		t.Errorf("the reader got %v, want sandbox_paused", err)
	}
	_, err = s.Process(t.Context(), id, p.ID)
	wantFailure(t, err, 409, "sandbox_not_running")
	_, err = s.Resume(t.Context(), id)
	check(t, err)
	at = say(t, s.Client, id, p.ID, "two", at)

	t.Log("a fork has the process, and its own output from then on")
	forked, err := s.Fork(t.Context(), id, client.ForkRequest{})
	check(t, err)
	own(t, s.Client, forked.Sandboxes...)
	child := forked.Sandboxes[0].ID
	childAt := say(t, s.Client, child, p.ID, "child", at)
	at = say(t, s.Client, id, p.ID, "parent", at)
	if childAt == at {
		t.Errorf("both outputs have %d bytes", at)
	}

	t.Log("the exit stays readable")
	check(t, s.CloseProcessStdin(t.Context(), id, p.ID))
	end, err := s.WaitProcess(t.Context(), id, p.ID)
	check(t, err)
	if end.ExitCode == nil || *end.ExitCode != 4 || end.OutputEnd != at {
		t.Errorf("got the end %+v, want exit code 4 and %d bytes", end, at)
	}
	if out, _ := reading(t, s.Client, id, p.ID, 0, ""); out != "got one\ngot two\ngot parent\n" {
		t.Errorf("after the end: got %q", out)
	}
	wantFailure(t, s.WriteProcess(t.Context(), id, p.ID, []byte("x")), 409, "process_ended")
	_, err = s.Process(t.Context(), id, "nosuchprocess")
	wantFailure(t, err, 404, "process_not_found")

	t.Run("truncation", func(t *testing.T) { testTruncation(t, s, id) })
	t.Run("signal", func(t *testing.T) { testProcessSignal(t, s, id) })
	t.Run("terminal", func(t *testing.T) { testTerminal(t, s, id) })
	t.Run("viewers", func(t *testing.T) { testViewers(t, s, id) })
	t.Run("command line", func(t *testing.T) { testTerminalCLI(t, s, id) })
	t.Run("lossless", func(t *testing.T) { followMuch(t, s.Client, id, 8<<20) })
}

func testTruncation(t *testing.T, s *server, id string) {
	p, err := s.StartProcess(t.Context(), id, client.ProcessRequest{
		Cmd: "head", Args: []string{"-c", "1000000", "/dev/zero"}, JournalBytes: 32 << 10,
	})
	check(t, err)
	end, err := s.WaitProcess(t.Context(), id, p.ID)
	check(t, err)
	a, err := s.Attach(t.Context(), id, p.ID, client.AttachOptions{})
	check(t, err)
	defer a.Close()
	var kept, truncated int64
	for {
		e, err := a.Next()
		check(t, err)
		kept, truncated = kept+int64(len(e.Data)), truncated+e.Truncated
		if e.Exited {
			break
		}
	}
	if truncated == 0 || kept+truncated != 1_000_000 || end.TruncatedBytes != truncated {
		t.Errorf("got %d bytes and %d truncated, and the record says %+v", kept, truncated, end)
	}
}

func testProcessSignal(t *testing.T, s *server, id string) {
	p, err := s.StartProcess(t.Context(), id, client.ProcessRequest{Cmd: "sh", Args: []string{"-c", "sleep 1000 & wait"}})
	check(t, err)
	check(t, s.SignalProcess(t.Context(), id, p.ID, client.ProcessSignalRequest{Signal: "SIGTERM"}))
	end, err := s.WaitProcess(t.Context(), id, p.ID)
	check(t, err)
	if end.Signal == nil || *end.Signal != "terminated" || *end.ExitCode != 143 {
		t.Errorf("got the end %+v, want the one by SIGTERM", end)
	}
}

func testTerminal(t *testing.T, s *server, id string) {
	p, err := s.StartProcess(t.Context(), id, client.ProcessRequest{
		Cmd: "sh", Args: []string{"-c", "stty size; read x; stty size; test -t 1 && echo $TERM"}, PTY: true, Cols: 101, Rows: 31,
	})
	check(t, err)
	reading(t, s.Client, id, p.ID, 0, "31 101\r\n")
	check(t, s.ResizeProcess(t.Context(), id, p.ID, client.TerminalSize{Cols: 102, Rows: 32}))
	check(t, s.WriteProcess(t.Context(), id, p.ID, []byte("x\r")))
	if out, _ := reading(t, s.Client, id, p.ID, 0, ""); out != "31 101\r\nx\r\n32 102\r\nxterm-256color\r\n" {
		t.Errorf("got %q", out)
	}
}

// viewer is a WebSocket at a process.
type viewer struct {
	*websocket.Conn
	t   *testing.T
	out string
	end string // the type of the last text message
}

func view(t *testing.T, s *server, id, process string) *viewer {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), s.BaseURL+"/v1/sandboxes/"+id+"/processes/"+process+"/attach", &websocket.DialOptions{
		Subprotocols: []string{"wrenn.process.v1"}, HTTPHeader: http.Header{"X-Api-Key": {s.APIKey}},
	})
	check(t, err)
	t.Cleanup(func() { _ = conn.CloseNow() })
	return &viewer{Conn: conn, t: t}
}

// until reads messages until the output ends with wanted, or to the end for "".
func (v *viewer) until(wanted string) {
	v.t.Helper()
	for wanted == "" || !strings.HasSuffix(v.out, wanted) {
		typ, message, err := v.Read(v.t.Context())
		if websocket.CloseStatus(err) == websocket.StatusNormalClosure {
			return
		}
		check(v.t, err)
		if typ == websocket.MessageText {
			var e client.ProcessSocketEvent
			check(v.t, json.Unmarshal(message, &e))
			v.end = e.Type
			continue
		}
		if at := wire.BigEndian.Uint64(message[1:]); at != uint64(len(v.out)) || message[0] != 3 {
			v.t.Fatalf("got the stream %d at the offset %d, want the terminal at %d", message[0], at, len(v.out))
		}
		v.out += string(message[9:])
	}
}

// testViewers uses one terminal over two WebSockets: both see the output, and each may
// type and resize.
func testViewers(t *testing.T, s *server, id string) {
	p, err := s.StartProcess(t.Context(), id, client.ProcessRequest{
		Cmd: "sh", Args: []string{"-c", "echo ready; read a; read b; stty size; echo $a $b; trap 'exit 9' INT; while :; do sleep 0.1; done"}, PTY: true,
	})
	check(t, err)
	one, two := view(t, s, id, p.ID), view(t, s, id, p.ID)
	one.until("ready\r\n")
	two.until("ready\r\n")
	check(t, one.Write(t.Context(), websocket.MessageText, []byte(`{"type":"resize","cols":70,"rows":20}`)))
	check(t, one.Write(t.Context(), websocket.MessageBinary, []byte("from one\r")))
	two.until("from one\r\n")
	check(t, two.Write(t.Context(), websocket.MessageBinary, []byte("from two\r")))
	one.until("20 70\r\nfrom one from two\r\n")
	check(t, one.Write(t.Context(), websocket.MessageText, []byte(`{"type":"signal","signal":"SIGINT"}`)))
	one.until("")
	two.until("")
	if one.out != two.out || one.end != "exit" || two.end != "exit" {
		t.Errorf("the viewers saw %q until %s, and %q until %s; want the same until the exit", one.out, one.end, two.out, two.end)
	}
	if end, err := s.Process(t.Context(), id, p.ID); err != nil || end.ExitCode == nil || *end.ExitCode != 9 {
		t.Errorf("got the end %+v, %v; want exit code 9", end, err)
	}
}

// onTerminal runs a command line of the program on a terminal of script(1), with keys as
// its input, and returns what the terminal shows.
func onTerminal(t *testing.T, s *server, keys, line string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "script", "-qec", "stty cols 97 rows 23; "+binary(t)+" "+line, "/dev/null")
	cmd.Env = append(os.Environ(), "WRENN_URL="+s.BaseURL, "WRENN_API_KEY="+s.APIKey, "TERM=vt100", "WRENN_DATA_DIR="+s.dir)
	in, err := cmd.StdinPipe()
	check(t, err)
	var out lockedBuffer
	cmd.Stdout = &out
	check(t, cmd.Start())
	eventually(t, "the program in the sandbox asks", func() bool { return strings.Contains(out.String(), "name?") })
	_, err = io.WriteString(in, keys)
	check(t, err)
	if err := cmd.Wait(); err != nil && cmd.ProcessState.ExitCode() != 5 {
		t.Errorf("%s: %v\n%s", line, err, out.String())
	}
	return out.String()
}

// lockedBuffer is a buffer that a program writes while a test reads it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// testTerminalCLI uses a terminal from the command line: its size and TERM arrive, keys
// pass, and a detached process continues on another terminal.
func testTerminalCLI(t *testing.T, s *server, id string) {
	if _, err := exec.LookPath("script"); err != nil {
		t.Fatal("script(1) is missing; Debian has it in the essential package bsdutils")
	}
	const ask = `stty size; echo $TERM; printf "name?"; read x; echo "hello $x"; exit 5`
	out := onTerminal(t, s, "you\r", "exec -it "+id+" -- sh -c '"+ask+"'")
	for _, want := range []string{"23 97", "vt100", "hello you", "detach with Ctrl-P Ctrl-Q"} {
		if !strings.Contains(out, want) {
			t.Errorf("the terminal shows %q, want %q in it", out, want)
		}
	}
	if out = onTerminal(t, s, "m\x10\x11", "exec -it "+id+" -- sh -c '"+ask+"'"); !strings.Contains(out, "detached") || strings.Contains(out, "hello") {
		t.Errorf("after the detach the terminal shows %q", out)
	}
	list, err := s.Processes(t.Context(), id)
	check(t, err)
	last := list[len(list)-1]
	if out = onTerminal(t, s, "e\r", "process attach "+id+" "+last.ID); !strings.Contains(out, "hello me") {
		t.Errorf("the second terminal shows %q, want the answer to the keys of both", out)
	}
}

// dropping breaks the body of each attach after a number of bytes, as often as left
// says.
type dropping struct {
	after int64
	left  atomic.Int32
}

var errDropped = errors.New("the connection was dropped")

// RoundTrip implements http.RoundTripper.
func (d *dropping) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && strings.HasSuffix(r.URL.Path, "/attach") && d.left.Load() > 0 {
		resp.Body = &dropped{ReadCloser: resp.Body, by: d, left: d.after}
	}
	return resp, err
}

type dropped struct {
	io.ReadCloser
	by   *dropping
	left int64
}

func (d *dropped) Read(p []byte) (int, error) {
	if d.left <= 0 {
		d.by.left.Add(-1)
		_ = d.Close()
		return 0, errDropped
	}
	n, err := d.ReadCloser.Read(p)
	d.left -= int64(n)
	return n, err
}

const pattern = "0123456789abcde\n"

// followMuch sends size bytes through one process whose connection is dropped three
// times, and accounts for each of them.
func followMuch(t *testing.T, c *client.Client, id string, size int64) {
	t.Helper()
	p, err := c.StartProcess(t.Context(), id, client.ProcessRequest{
		Cmd: "sh", Args: []string{"-c", `yes 0123456789abcde | head -c "$1"`, "sh", strconv.FormatInt(size, 10)},
		OnFull: client.OnFullBlock, JournalBytes: 4 << 20,
	})
	check(t, err)
	net := &dropping{after: size / 4}
	net.left.Store(3)
	over := *c
	over.HTTPClient = &http.Client{Transport: net}
	var next int64
	expected := []byte(strings.Repeat(pattern, 1<<12))
	end, err := over.Follow(t.Context(), id, p.ID, 0, func(e *client.ProcessEvent) error {
		if e.Truncated != 0 || len(e.Data) > 0 && e.Offset != next {
			t.Fatalf("got %d bytes at %d and %d truncated, want the byte %d next", len(e.Data), e.Offset, e.Truncated, next)
		}
		for data := e.Data; len(data) > 0; {
			want := expected[next%int64(len(pattern)):]
			n := min(len(want), len(data))
			if string(data[:n]) != string(want[:n]) {
				t.Fatalf("the bytes at %d differ", next)
			}
			data, next = data[n:], next+int64(n)
		}
		return nil
	}, func(error) bool { return true })
	check(t, err)
	if left := net.left.Load(); next != size || left != 0 || end.OutputEnd != size || end.TruncatedBytes != 0 || *end.ExitCode != 0 {
		t.Errorf("got %d bytes of %d with %d drops left, and the end %+v", next, size, left, end)
	}
}

// TestGiBThroughOneProcess runs where the guest's programs run natively.
func TestGiBThroughOneProcess(t *testing.T) {
	t.Parallel()
	s := startGVisor(t)
	id := create(t, s.Client, small).ID
	followMuch(t, s.Client, id, 1<<30)
}

// TestProcessSurvivesRestarts kills the control plane and the host agent while a process
// runs in each runtime.
func TestProcessSurvivesRestarts(t *testing.T) {
	t.Parallel()
	needVMs(t)
	needRunsc(t)
	p := startPairIn(t, dataDir(t), pgtest.New(t), "--runtime", "gvisor")
	type running struct {
		id, process string
		at          int64
	}
	var all []*running
	for _, runtime := range []string{microVM, gVisor} {
		sb, err := p.Create(t.Context(), inRuntime(runtime)) // destroyed with the pair
		check(t, err)
		r := &running{id: sb.ID}
		r.process = startEcho(t, p.Client, r.id).ID
		r.at = say(t, p.Client, r.id, r.process, "before", 0)
		all = append(all, r)
	}
	p.plane.stop(t, syscall.SIGKILL)
	p.startPlane(t)
	for _, r := range all {
		r.at = say(t, p.Client, r.id, r.process, "plane", r.at)
	}
	p.agent.stop(t, syscall.SIGKILL)
	p.startAgent(t)
	eventually(t, "the server is ready again", func() bool {
		_, err := p.Ready(t.Context())
		return err == nil
	})
	for _, r := range all {
		say(t, p.Client, r.id, r.process, "agent", r.at)
		if out, _ := reading(t, p.Client, r.id, r.process, 0, "got agent\n"); out != "got before\ngot plane\ngot agent\n" {
			t.Errorf("after both restarts: got %q", out)
		}
	}
}
