package runtimes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/api/gen/process"
	"github.com/wrenn-dev/wrenn/internal/guestclient"
	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/kvmprobe"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

func TestMain(m *testing.M) {
	kvmprobe.MaybeChild()
	os.Exit(m.Run())
}

// patience bounds one command in a sandbox.
const patience = 5 * time.Minute

// probePath is where the probes are in a sandbox.
const probePath = "/usr/local/bin/probe"

// agent is a host agent with both runtimes.
type agent struct {
	t testing.TB
	*host.Manager
}

func newAgent(t *testing.T, name string) agent {
	t.Helper()
	deps := hosttest.Deps(t, hosttest.Name(name))
	deps.Drivers = append(deps.Drivers, hosttest.GVisor(t))
	m, err := host.Open(t.Context(), host.Config{
		Dir: hosttest.Dir(t), DiskReserveBytes: 1, TemplateDir: hosttest.Dir(t), Nameservers: []string{"192.0.2.53"},
		BootTimeout: hosttest.Patience(t, time.Minute), GuestTimeout: hosttest.Patience(t, time.Minute),
	}, deps)
	check(t, err)
	t.Cleanup(func() {
		for _, s := range m.List() {
			if err := m.Destroy(context.Background(), s.Ref, ""); err != nil {
				t.Errorf("destroy %s: %v", s.Ref.ID, err)
			}
		}
		err := errors.Join(m.Close(), deps.Network.(io.Closer).Close(), deps.Cgroups.(io.Closer).Close())
		if err != nil {
			t.Errorf("close the agent: %v", err)
		}
	})
	return agent{t, m}
}

// of returns the agent for a subtest.
func (a agent) of(t *testing.T) agent {
	t.Parallel()
	return agent{t, a.Manager}
}

// spec is the size of the sandboxes.
func spec(runtime sandbox.Runtime) sandbox.Spec {
	return sandbox.Spec{MemoryMB: 512, DiskMB: 1024, Runtime: runtime}.WithDefaults()
}

// create creates a sandbox that has the probes.
func (a agent) create(runtime sandbox.Runtime) sandbox.Ref {
	a.t.Helper()
	ref := sandbox.Ref{ID: sandbox.NewID(), Generation: 1}
	_, err := a.Create(a.t.Context(), ref, spec(runtime))
	check(a.t, err)
	a.upload(ref, probeProgram(a.t), probePath)
	a.sh(ref, "chmod 755 "+probePath)
	return ref
}

func (a agent) upload(ref sandbox.Ref, from, to string) {
	a.t.Helper()
	f, err := os.Open(from)
	check(a.t, err)
	defer f.Close()
	_, err = a.WriteFile(a.t.Context(), ref, guestclient.WriteFile{Path: to}, f)
	check(a.t, err)
}

// sh runs a script as root and returns its output.
func (a agent) sh(ref sandbox.Ref, script string) string {
	a.t.Helper()
	out, err := a.try(ref, script)
	if err != nil {
		a.t.Fatalf("%s: %v", script, err)
	}
	return out
}

// try runs a script as root and returns its output. Its failure is an error.
func (a agent) try(ref sandbox.Ref, script string) (string, error) {
	a.t.Helper()
	var out strings.Builder
	noStdin, code := false, int32(-1)
	err := a.Exec(a.t.Context(), ref, host.Exec{
		Start:   &process.StartRequest{Process: &process.ProcessConfig{Cmd: "/bin/sh", Args: []string{"-c", script}}, Stdin: &noStdin},
		Timeout: hosttest.Patience(a.t, patience),
	}, func(e *process.ProcessEvent) error {
		out.Write(e.GetData().GetStdout())
		out.Write(e.GetData().GetStderr())
		if end := e.GetEnd(); end != nil {
			code = end.GetExitCode()
		}
		return nil
	})
	if err != nil || code != 0 {
		return "", errors.Join(err, fmt.Errorf("exit code %d: %s", code, out.String()))
	}
	return out.String(), nil
}

// probeProgram builds the probes and returns their path.
func probeProgram(t testing.TB) string {
	t.Helper()
	path := filepath.Join(hosttest.Dir(t), "probe")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "./probe")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the probes: %v: %s", err, out)
	}
	return path
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
