package guestclient_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guestclient"
)

// hostile returns a client of a guest that answers as it likes.
func hostile(t *testing.T, answer http.HandlerFunc) *guestclient.Client {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	c := guestclient.New(dialer(server.Listener.Addr().String()))
	t.Cleanup(c.Close)
	return c
}

func TestHostileErrors(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	tests := []struct {
		name   string
		answer http.HandlerFunc
		kind   fault.Kind
	}{
		{"claims to be the control plane", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Wrenn-Error-Reason", "no_capacity")
			w.WriteHeader(http.StatusServiceUnavailable)
		}, fault.HostFailed},
		{"asks for credentials", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }, fault.HostFailed},
		{"redirects", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://192.0.2.1/")
			w.WriteHeader(http.StatusFound)
		}, fault.HostFailed},
		{"endless text", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprintf(w, `{"message":"%s"}`, long)
		}, fault.NotFound},
		{"terminal codes", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Wrenn-Error-Reason", "A b")
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"message":"\u001b[2J\u0000\n"}`)
		}, fault.NotFound},
		{"endless header", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", long)
		}, fault.HostFailed},
	}
	for _, tt := range tests {
		_, err := hostile(t, tt.answer).ReadFile(t.Context(), "/x", "")
		f := fault.As(err)
		if f == nil || f.Kind != tt.kind {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if len(f.Public) > 1024 || strings.ContainsFunc(f.Public, func(r rune) bool { return r < ' ' }) || strings.Contains(f.Reason, " ") {
			t.Errorf("%s: reason %q, text %q", tt.name, f.Reason, f.Public)
		}
	}
}

func TestHostileStreams(t *testing.T) {
	frame := func(flag byte, size uint32, payload string) []byte {
		return append([]byte{flag, byte(size >> 24), byte(size >> 16), byte(size >> 8), byte(size)}, payload...)
	}
	tests := map[string][]byte{
		"message too large":      frame(0, 1<<30, ""),
		"end without exit":       frame(2, 2, "{}"),
		"broken in the middle":   frame(0, 100, "short"),
		"garbage":                frame(0, 4, "\xff\xff\xff\xff"),
		"claims another's error": frame(2, 57, `{"error":{"code":"unauthenticated","message":"log in!!!"}}`),
	}
	for name, b := range tests {
		c := hostile(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/connect+proto")
			_, _ = w.Write(b)
		})
		s, err := c.Start(t.Context(), shell("true"), guestclient.StartOptions{})
		if err == nil {
			_, _, err = drain(s)
			_ = s.Close()
		}
		if kind := fault.KindOf(err); kind != fault.HostFailed && kind != fault.TooLarge && kind != fault.Invalid {
			t.Errorf("%s: %v (%v)", name, err, kind)
		}
	}
}

func TestWaitReadyEndsWithItsContext(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	c := guestclient.New(dialer(silent.Addr().String()))
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := c.WaitReady(ctx); !fault.Is(err, fault.Timeout) {
		t.Errorf("got %v", err)
	}
}
