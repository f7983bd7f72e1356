package e2e

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/client"
	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
)

// server is a `wrenn up` with a data directory of its own.
type server struct {
	*client.Client
	// dir is the data directory, name begins the names of its devices and groups on the
	// machine.
	dir, name string
	args      []string
	*process
}

// startUp starts a server and returns when it serves. At the end of the test,
// the server is stopped and must have left nothing behind.
func startUp(t *testing.T, args ...string) *server {
	t.Helper()
	needVMs(t)
	return startUpIn(t, dataDir(t), args...)
}

// startUpIn is startUp in a directory that the caller has made.
func startUpIn(t *testing.T, dir string, args ...string) *server {
	t.Helper()
	s := &server{dir: dir, args: append(args, "--network", hosttest.Range(t))}
	t.Cleanup(func() { s.end(t) })
	s.start(t)
	return s
}

// start runs `wrenn up`, again if one has ended.
func (s *server) start(t *testing.T) {
	t.Helper()
	s.process = start(t, nil, append([]string{"up", "--data-dir", s.dir, "--listen", "127.0.0.1:0"}, s.args...)...)
	s.name = s.await(t, "sandbox network is ready")["name"].(string)
	s.Client = served(t, s.process)
	if !slices.Contains(s.args, "--no-auth") {
		s.Client.APIKey = localKey(t, s.dir)
	}
}

// localKey returns the key that the server of a data directory has made for
// this machine.
func localKey(t testing.TB, dir string) string {
	t.Helper()
	key, err := os.ReadFile(filepath.Join(dir, "api-key"))
	check(t, err)
	return strings.TrimSpace(string(key))
}

// served returns a client of the control plane in p when it is ready.
func served(t *testing.T, p *process) *client.Client {
	t.Helper()
	c := &client.Client{BaseURL: p.await(t, "the REST API is served")["url"].(string)}
	eventually(t, "the server is ready", func() bool {
		_, err := c.Ready(t.Context())
		return err == nil
	})
	return c
}

// end destroys all sandboxes, stops the server and checks for leftovers.
func (s *server) end(t *testing.T) {
	t.Helper()
	if s.Client != nil {
		destroyAll(t, s.Client, s.dir)
	}
	s.stop(t, syscall.SIGTERM)
	if s.name == "" {
		return // it has made nothing
	}
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("the server ended with %d:\n%s", code, s.tail(60))
	}
	nothingLeft(t, s.dir, s.name)
}

// destroyAll destroys every sandbox that has not ended, and waits until the
// host has removed the ended ones too.
func destroyAll(t *testing.T, c *client.Client, dir string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for sb, err := range c.All(ctx, client.ListOptions{Status: []string{"pending", "running", "paused"}}) {
		if err != nil {
			t.Errorf("list what is to be destroyed: %v", err)
			return
		}
		if err := c.Destroy(ctx, sb.ID); err != nil {
			t.Errorf("destroy %s: %v", sb.ID, err)
		}
	}
	for template, err := range c.AllTemplates(ctx) {
		if err != nil {
			t.Errorf("list the templates to be deleted: %v", err)
			return
		}
		if template.ID == nil {
			continue // an image of the host, or a snapshot
		}
		if err := c.DeleteTemplate(ctx, template.Name); err != nil {
			t.Errorf("delete template %s: %v", template.Name, err)
		}
	}
	for snap, err := range c.AllSnapshots(ctx, client.SnapshotOptions{}) {
		if err != nil {
			t.Errorf("list the snapshots to be deleted: %v", err)
			return
		}
		if snap.TemplateName != nil {
			err = c.RemoveTemplate(ctx, snap.ID)
		}
		if err = errors.Join(err, c.DeleteSnapshot(ctx, snap.ID)); err != nil {
			t.Errorf("delete snapshot %s: %v", snap.ID, err)
		}
	}
	eventually(t, "the host has no sandboxes", func() bool {
		found, err := filepath.Glob(filepath.Join(dir, "host", "sandboxes", "*"))
		return err == nil && !slices.ContainsFunc(found, isSandbox)
	})
}

// isSandbox tells the directory of a sandbox from that of a warm clone, which
// is removed with the server only.
func isSandbox(dir string) bool {
	record, err := os.ReadFile(filepath.Join(dir, "record.json"))
	return err != nil || !strings.Contains(string(record), `"pooled":true`)
}

// create creates a sandbox that is destroyed at the end of the test.
func create(t *testing.T, c *client.Client, in client.CreateRequest) *client.Sandbox {
	t.Helper()
	sb, err := c.Create(t.Context(), in)
	check(t, err)
	t.Cleanup(func() {
		if err := c.Destroy(context.Background(), sb.ID); err != nil {
			t.Errorf("destroy %s: %v", sb.ID, err)
		}
	})
	return sb
}

// sh runs a script in a sandbox and returns its output, without the spaces
// around it. It fails the test unless the script ends with 0.
func sh(t testing.TB, c *client.Client, id, script string) string {
	t.Helper()
	out, err := trySh(t.Context(), c, id, script)
	if err != nil {
		logProcesses(t, c, id, err)
		t.Fatalf("%s: %v", script, err)
	}
	return out
}

// processStates prints the state, the wait channel and the kernel stack of each
// process, the pressure on the machine, and the last kernel messages.
const processStates = `cat /proc/uptime /proc/loadavg /proc/meminfo | head -6
for p in /proc/[0-9]*; do
	echo "${p#/proc/} $(cat $p/comm) $(grep ^State $p/status) $(cat $p/wchan) $(tr '\n' ' ' <$p/stack)"
done
dmesg | tail -20`

// logProcesses logs the states of all processes of a sandbox in which a command
// ran out of its time, and those of its VM's threads. They tell a stuck device
// from a starved machine.
func logProcesses(t testing.TB, c *client.Client, id string, cause error) {
	t.Helper()
	var failed *client.Error
	if !errors.As(cause, &failed) || failed.Code != "exec_timeout" {
		return
	}
	begun := time.Now()
	out, err := trySh(t.Context(), c, id, processStates)
	t.Logf("processes of %s, asked for %v (%v):\n%s", id, time.Since(begun), err, out)
	threads, _ := filepath.Glob("/proc/[0-9]*/task/[0-9]*")
	for _, dir := range threads {
		mark, _ := os.ReadFile(filepath.Join(dir, "environ"))
		if !strings.Contains(string(mark), "/"+id+"/") {
			continue
		}
		var lines []string
		for _, file := range []string{"comm", "wchan", "schedstat", "stat", "stack"} {
			text, _ := os.ReadFile(filepath.Join(dir, file))
			lines = append(lines, strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", " "))
		}
		t.Logf("thread %s of its VM: %s", filepath.Base(dir), strings.Join(lines, " | "))
	}
}
