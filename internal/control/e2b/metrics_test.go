package e2b

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// measured is a control plane whose sandbox answers one request of its port.
type measured struct {
	*fake
	options []control.DialOption
	ended   chan error
}

// pipe is a connection to a port of a sandbox.
type pipe struct{ net.Conn }

func (pipe) CloseWrite() error { return nil }

func (m *measured) DialPort(_ context.Context, _ sandbox.ID, _ uint16, options ...control.DialOption) (control.PortConn, error) {
	m.options = options
	near, far := net.Pipe()
	go func() {
		_, err := http.ReadRequest(bufio.NewReader(far))
		if err == nil {
			_, err = io.WriteString(far, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 15\r\n\r\n{\"mem_used\":42}")
		}
		m.ended <- errors.Join(err, far.Close())
	}()
	return pipe{near}, nil
}

// TestMetricsAreNoUse: who asks for metrics all the time keeps no sandbox from its time
// limit, and resumes none that has paused meanwhile.
func TestMetricsAreNoUse(t *testing.T) {
	m := &measured{fake: box(sandbox.Running), ended: make(chan error, 1)}
	s := &server{Config: Config{Sandboxes: m}}
	got, err := s.sample(t.Context(), m.row, m.row.CreatedAt)
	if err := errors.Join(err, <-m.ended); err != nil {
		t.Fatal(err)
	}
	if got.MemUsed != 42 || !slices.Contains(m.options, control.Passive) {
		t.Errorf("a sample of %d bytes by a connection with %v, want 42 and a passive one", got.MemUsed, m.options)
	}
}
