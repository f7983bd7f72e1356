package rpc

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/user"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guest/filesystem"
	"github.com/wrenn-dev/wrenn/internal/guest/process"
)

// machine is the kernel of a test: it writes down what it is asked for, and
// fails at the step named.
type machine struct {
	mu    sync.Mutex // protects the following
	steps []string
	fail  string
	kept  []byte
}

var errMachine = errors.New("the machine fails")

func (m *machine) step(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.steps = append(m.steps, name)
	if name == m.fail {
		return errMachine
	}
	return nil
}

func (m *machine) failAt(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail, m.steps = name, nil
}

func (m *machine) taken() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.steps)
}

// orphan is the ticket of a command of an earlier agent that a signal has ended.
const orphan = 4711

func (*machine) Begins(uint64, string) {}
func (*machine) Began(uint64, int)     {}

func (m *machine) End(_ context.Context, ticket uint64) (unix.WaitStatus, error) {
	if ticket != orphan {
		return 0, fault.New(fault.NotFound, "process_not_found", "no command has the ticket %d", ticket)
	}
	return 9, nil
}

func (m *machine) Reseed([]byte) error { return m.step("reseed") }
func (m *machine) SetClock(time.Time) (time.Duration, error) {
	return time.Second, m.step("clock")
}
func (m *machine) CloseConnections() (int, error)      { return 2, m.step("connections") }
func (m *machine) Sync() error                         { return m.step("sync") }
func (m *machine) Release() string                     { return "test" }
func (m *machine) SetHostname(string) error            { return m.step("hostname") }
func (m *machine) SetNameservers([]string) error       { return m.step("nameservers") }
func (m *machine) Renew() error                        { return m.step("renew") }
func (m *machine) Freeze(context.Context) (int, error) { return 3, m.step("freeze") }
func (m *machine) Thaw(context.Context) error          { return m.step("thaw") }
func (m *machine) Load() ([]byte, error)               { return m.kept, m.step("load") }
func (m *machine) Save(b []byte) error {
	if err := m.step("save"); err != nil {
		return err
	}
	m.kept = b
	return nil
}

// guest is a real server on a real socket with a machine of the test.
type guest struct {
	t       *testing.T
	machine *machine
	server  *Server // the one served last
	base    string
	home    string
	user    string
	token   string
}

const testPatience = 20 * time.Second

// newGuest returns a sealed guest.
func newGuest(t *testing.T) *guest {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{t: t, machine: &machine{}, user: me.Username, home: me.HomeDir}
	g.serve(g.machine)
	return g
}

// serve runs a server until the end of the test.
func (g *guest) serve(m *machine) {
	g.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		g.t.Fatal(err)
	}
	table := process.NewTable(process.NoGroups{})
	server := NewServer(Config{
		Processes: table, Accounts: filesystem.NewAccounts("/"), Kernel: m, Identity: m, Freezer: m, Vault: m, Orphans: m,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Version: "test",
	})
	g.server = server
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, listener) }()
	g.base = "http://" + listener.Addr().String()
	g.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			g.t.Errorf("serve: %v", err)
		}
		grace, stop := context.WithTimeout(context.Background(), testPatience)
		defer stop()
		if err := table.Close(grace); err != nil {
			g.t.Errorf("close: %v", err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
}

// response is an answer read to its end.
type response struct {
	status int
	header http.Header
	body   string
}

// do sends one request; header is name, value, name, value...
func (g *guest) do(method, path string, body io.Reader, header ...string) response {
	g.t.Helper()
	req, err := http.NewRequestWithContext(g.t.Context(), method, g.base+path, body)
	if err != nil {
		g.t.Fatal(err)
	}
	if g.token != "" {
		req.Header.Set(headerToken, g.token)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return response{resp.StatusCode, resp.Header, string(b)}
}

// call sends a unary RPC as JSON.
func (g *guest) call(procedure string, message map[string]any, header ...string) (int, map[string]any) {
	g.t.Helper()
	b, err := json.Marshal(message)
	if err != nil {
		g.t.Fatal(err)
	}
	r := g.do(http.MethodPost, procedure, bytes.NewReader(b), append([]string{"Content-Type", "application/json"}, header...)...)
	var out map[string]any
	if err := json.Unmarshal([]byte(r.body), &out); err != nil {
		g.t.Fatalf("%s: %d %q", procedure, r.status, r.body)
	}
	return r.status, out
}

// configuration is a request that opens the guest as the user of the test.
func (g *guest) configuration() map[string]any {
	return map[string]any{
		"sandboxId": "abc", "generation": "1", "wallClockUnixNano": "1800000000000000000",
		"entropy":  base64.StdEncoding.EncodeToString(make([]byte, minEntropy)),
		"hostname": "sb-abc", "nameservers": []string{"192.0.2.1"}, "newIdentity": true,
		"defaultUser": g.user, "accessToken": "secret", "envs": map[string]string{"FROM": "sandbox"},
	}
}

const procConfigure = "/wrenn.guest.v1.Guest/Configure"

// open configures the guest and takes over its token.
func (g *guest) open() *guest {
	g.t.Helper()
	if status, out := g.call(procConfigure, g.configuration()); status != http.StatusOK {
		g.t.Fatalf("configure: %d %v", status, out)
	}
	g.token = "secret"
	return g
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
