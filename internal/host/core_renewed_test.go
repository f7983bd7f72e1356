package host_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/host/image"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// started are images whose template has a start command with a check.
type started struct{ host.Images }

func (s started) Template(name string) (image.Template, error) {
	t, err := s.Images.Template(name)
	t.Start = image.Start{Command: "true", RenewedPort: 80, RenewedPath: "/renewed"}
	return t, err
}

// renewing is a program of a template's start command on port 80 of every guest. It passes
// on the target of each request and answers once a value has been received.
func renewing(t *testing.T, c *core) (asked <-chan string, answer chan<- struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	c.programs = map[uint16]net.Listener{80: l}
	c.images = started{c.images}
	targets, answers, done := make(chan string), make(chan struct{}), make(chan struct{})
	serve := func(conn net.Conn) {
		defer conn.Close()
		r, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		select {
		case targets <- r.Method + " " + r.URL.Path:
		case <-t.Context().Done():
			return
		}
		select {
		case <-answers:
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
		case <-t.Context().Done():
		}
	}
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serve(conn)
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return targets, answers
}

// TestCreateAwaitsPrograms: a create from a template waits until the programs of the
// template's start command have renewed themselves, and its report has the time.
func TestCreateAwaitsPrograms(t *testing.T) {
	c := newCore(t, fastTemp(t))
	asked, answer := renewing(t, c)
	c.restart()
	created := make(chan error, 1)
	ref := newRef()
	go func() {
		_, err := c.Create(t.Context(), ref, coreSpec)
		created <- err
	}()
	if got := <-asked; got != "GET /renewed" {
		t.Errorf("the program was asked %q", got)
	}
	if s := c.of(ref); s.State != sandbox.Pending {
		t.Errorf("before the answer the sandbox is %s, want pending", s.State)
	}
	answer <- struct{}{}
	check(t, <-created)
	if s := c.of(ref); s.State != sandbox.Running || s.RestoreReport.Steps["template_programs"] == 0 {
		t.Errorf("the sandbox is %s, with the steps %v", s.State, s.RestoreReport.Steps)
	}
}

// TestPoolAwaitsPrograms: a warm clone has waited for the programs when a create takes it,
// and the create does not ask again.
func TestPoolAwaitsPrograms(t *testing.T) {
	c := newCore(t, fastTemp(t))
	asked, answer := renewing(t, c)
	c.restart(corePool)
	<-asked
	if ready := c.Pools()[0].Ready; ready != 0 {
		t.Errorf("before the answer %d clones are ready", ready)
	}
	answer <- struct{}{}
	awaitPool(t, c.Manager, 1)
	ref := newRef()
	_, err := c.Create(t.Context(), ref, coreSpec)
	check(t, err)
	s := c.of(ref)
	if _, asked := s.RestoreReport.Steps["template_programs"]; s.Source != "pool" || asked {
		t.Errorf("the sandbox came from %q, with the steps %v", s.Source, s.RestoreReport.Steps)
	}
}
