package e2e

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/client"
	"github.com/wrenn-dev/wrenn/internal/certs/certstest"
	"github.com/wrenn-dev/wrenn/internal/control/postgres/pgtest"
	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
)

// scene has four sandboxes at the same time: one is idle, one runs a command,
// one is being paused and one is being created.
type scene struct {
	idle, busy, pausing, creating string
	exec, pause, create           <-chan error
}

// setScene returns while the pause and the create are in flight.
func setScene(t *testing.T, c *client.Client, dir string) *scene {
	t.Helper()
	var ids [3]string
	for i := range ids {
		sb, err := c.Create(t.Context(), small)
		check(t, err)
		ids[i] = sb.ID
	}
	sc := &scene{idle: ids[0], busy: ids[1], pausing: ids[2]}
	sh(t, c, sc.idle, counter)
	sh(t, c, sc.pausing, counter)
	sc.exec = running(t, c, sc.busy)
	sc.create = createMarked(t, c, t.Name())
	sc.creating = pending(t, c, t.Name())
	eventually(t, "the created VM process is there", func() bool { return vmOf(dir, sc.creating) != 0 })
	sc.pause = pauseBegun(t, c, dir, sc.pausing)
	return sc
}

// pauseBegun starts a pause and returns while it is in flight, once the
// directory of the pause exists.
func pauseBegun(t *testing.T, c *client.Client, dir, id string) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := c.Pause(context.Background(), id)
		done <- err
	}()
	eventually(t, "the snapshot is begun", func() bool {
		found, _ := filepath.Glob(filepath.Join(dir, "host", "sandboxes", id, "pause-*"))
		return len(found) > 0
	})
	return done
}

// survived checks, after the crash, that every request was answered, that no
// sandbox was lost and that each continues from its earlier state.
func (sc *scene) survived(t *testing.T, c *client.Client, dir string) {
	t.Helper()
	for what, done := range map[string]<-chan error{"pause": sc.pause, "create": sc.create} {
		select {
		case err := <-done:
			t.Logf("the %s under way ended with: %v", what, err)
		case <-time.After(patience):
			t.Errorf("the %s under way has not ended", what)
		}
	}
	select {
	case err := <-sc.exec:
		t.Logf("the exec under way ended with: %v", err)
	default: // the crash did not concern it
	}
	awaitStableRows(t, c)
	for name, id := range map[string]string{"idle": sc.idle, "busy": sc.busy, "pausing": sc.pausing} {
		sb, err := c.Get(t.Context(), id)
		check(t, err)
		t.Logf("the %s sandbox is %s", name, sb.Status)
		if name == "pausing" {
			resumeIfPaused(t, c, id)
		}
		if name == "busy" { // its command may have been killed with its caller's connection
			sh(t, c, id, "true")
			continue
		}
		goesOn(t, c, id, "1")
	}
	wantAgreement(t, c, dir)
}

// resumeIfPaused waits until a sandbox whose pause was interrupted is running or paused,
// and resumes it if it is paused.
func resumeIfPaused(t *testing.T, c *client.Client, id string) {
	t.Helper()
	eventually(t, "the sandbox that was being paused can be used", func() bool {
		if _, err := trySh(t.Context(), c, id, "true"); err == nil {
			return true
		}
		_, err := c.Resume(t.Context(), id)
		return err == nil
	})
}

// awaitStableRows waits until no row is in transition.
func awaitStableRows(t *testing.T, c *client.Client) {
	t.Helper()
	eventually(t, "no sandbox is pending", func() bool {
		page, err := c.List(t.Context(), client.ListOptions{Status: []string{client.StatusPending}})
		return err == nil && len(page.Sandboxes) == 0
	})
}

// wantAgreement checks that every row agrees with its host: running sandboxes run
// commands, paused ones can be resumed and have no process, ended ones have a
// reason and no resources. It also checks that no resource is without a row.
func wantAgreement(t *testing.T, c *client.Client, dir string) {
	t.Helper()
	known := map[string]bool{}
	page, err := c.List(t.Context(), client.ListOptions{})
	check(t, err)
	for _, sb := range page.Sandboxes {
		known[sb.ID] = true
		files := filepath.Join(dir, "host", "sandboxes", sb.ID)
		switch sb.Status {
		case client.StatusRunning:
			sh(t, c, sb.ID, "true")
		case client.StatusPaused:
			if vmOf(dir, sb.ID) != 0 {
				t.Errorf("%s is paused and has a process", sb.ID)
			}
			_, err := c.Resume(t.Context(), sb.ID)
			check(t, err)
			sh(t, c, sb.ID, "true")
		case client.StatusStopped, client.StatusError:
			if sb.StopReason == nil || sb.EndedAt == nil {
				t.Errorf("%s is %s and does not say why: %+v", sb.ID, sb.Status, sb)
			}
			eventually(t, "what "+sb.ID+" left is gone", func() bool {
				_, err := os.Stat(files)
				return vmOf(dir, sb.ID) == 0 && os.IsNotExist(err)
			})
		default:
			t.Errorf("%s is %s", sb.ID, sb.Status)
		}
	}
	found, err := filepath.Glob(filepath.Join(dir, "host", "sandboxes", "*"))
	check(t, err)
	for _, path := range found {
		if !known[filepath.Base(path)] {
			// A crash of the database may lose the row of a create that was not
			// acknowledged. The reconciler then ends its VM.
			eventually(t, path+", which has no row, is gone", func() bool {
				_, err := os.Stat(path)
				return os.IsNotExist(err)
			})
		}
	}
}

// TestKilledUp kills `wrenn up`: agent, control plane and database at once.
func TestKilledUp(t *testing.T) {
	t.Parallel()
	s := startUp(t)
	sc := setScene(t, s.Client, s.dir)
	s.stop(t, syscall.SIGKILL)
	s.start(t)
	sc.survived(t, s.Client, s.dir)
}

// TestKilledPostgreSQL kills the embedded database of a running server.
func TestKilledPostgreSQL(t *testing.T) {
	t.Parallel()
	s := startUp(t)
	sc := setScene(t, s.Client, s.dir)
	kill(t, postmaster(t, s.dir))
	eventually(t, "the server is ready again", func() bool {
		_, err := s.Ready(t.Context())
		return err == nil
	})
	sc.survived(t, s.Client, s.dir)
}

// postmaster returns the process of the embedded database (the first line of
// its postmaster.pid).
func postmaster(t *testing.T, dir string) int {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "postgres", "*", "postmaster.pid"))
	if err != nil || len(found) != 1 {
		t.Fatalf("the database's pid files are %v, %v", found, err)
	}
	text, err := os.ReadFile(found[0])
	check(t, err)
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	check(t, err)
	return pid
}

// TestKilledAgent kills a host agent that runs in a process of its own.
// Requests that need it are answered with 502 meanwhile, and all others
// succeed.
func TestKilledAgent(t *testing.T) {
	t.Parallel()
	p := startPair(t)
	sc := setScene(t, p.Client, p.dir)
	p.agent.stop(t, syscall.SIGKILL)
	_, err := trySh(t.Context(), p.Client, sc.idle, "true")
	wantFailure(t, err, 502, "host_unreachable")
	_, err = p.Create(t.Context(), small)
	wantFailure(t, err, 502, "host_unreachable")
	if _, err := p.Ready(t.Context()); failure(t, err).Status != 503 {
		t.Errorf("without a host it is ready: %v", err)
	}
	if sb, err := p.Get(t.Context(), sc.idle); err != nil || sb.Status != client.StatusRunning {
		t.Errorf("without its host the idle sandbox is %+v, %v", sb, err)
	}
	p.startAgent(t)
	eventually(t, "the server is ready again", func() bool {
		_, err := p.Ready(t.Context())
		return err == nil
	})
	sc.survived(t, p.Client, p.dir)
}

// TestKilledControlPlane kills a control plane that runs in a process of its
// own.
func TestKilledControlPlane(t *testing.T) {
	t.Parallel()
	p := startPair(t)
	sc := setScene(t, p.Client, p.dir)
	p.plane.stop(t, syscall.SIGKILL)
	p.startPlane(t)
	sc.survived(t, p.Client, p.dir)
}

// pair is a control plane and a host agent in processes of their own.
type pair struct {
	*client.Client
	dir, name, database, network string
	// address is the address of the agent, which a restart does not change.
	// Over TCP the agent requires TLS, a client certificate and the token.
	address, token string
	ca             *certstest.Authority
	agentArgs      []string
	plane, agent   *process
}

func startPair(t *testing.T) *pair {
	t.Helper()
	needVMs(t)
	return startPairIn(t, dataDir(t), pgtest.New(t))
}

// startPairIn starts a pair in a data directory and on a database that the
// caller has made, with further arguments for the agent.
func startPairIn(t *testing.T, dir, database string, agentArgs ...string) *pair {
	t.Helper()
	p := &pair{
		dir: dir, database: database, network: hosttest.Range(t), agentArgs: agentArgs,
		address: "127.0.0.1:0", token: rand.Text(), ca: certstest.New(t, "ca"),
	}
	t.Cleanup(func() {
		if p.Client != nil {
			destroyAll(t, p.Client, p.dir)
		}
		p.plane.stop(t, syscall.SIGTERM)
		p.agent.stop(t, syscall.SIGTERM)
		if p.name != "" {
			nothingLeft(t, p.dir, p.name)
		}
	})
	p.startAgent(t)
	p.startPlane(t)
	notInProcessList(t, p.token)
	return p
}

func (p *pair) startAgent(t *testing.T) {
	t.Helper()
	cert, key := p.ca.Issue(t, "agent")
	args := append([]string{"agent", "--data-dir", p.dir, "--host-id", "one", "--network", p.network,
		"--listen", p.address, "--tls-cert", cert, "--tls-key", key, "--tls-client-ca", p.ca.File}, p.agentArgs...)
	p.agent = start(t, []string{"WRENN_TOKEN=" + p.token}, args...)
	p.name = p.agent.await(t, "sandbox network is ready")["name"].(string)
	p.address = p.agent.await(t, "the host agent is ready")["address"].(string)
}

func (p *pair) startPlane(t *testing.T) {
	t.Helper()
	cert, key := p.ca.Issue(t, "plane")
	p.plane = start(t, []string{"DATABASE_URL=" + p.database, "WRENN_HOST_TOKEN=" + p.token},
		"server", "--listen", "127.0.0.1:0", "--no-auth",
		"--host", "one=https://"+p.address, "--host-ca", p.ca.File, "--host-cert", cert, "--host-key", key)
	p.Client = served(t, p.plane)
}

// notInProcessList looks for a secret among the arguments of all processes.
func notInProcessList(t *testing.T, secret string) {
	t.Helper()
	found, err := filepath.Glob("/proc/[0-9]*/cmdline")
	check(t, err)
	for _, path := range found {
		if line, _ := os.ReadFile(path); strings.Contains(string(line), secret) { // others end meanwhile
			t.Errorf("a secret stands in the process list: %q", line)
		}
	}
}
