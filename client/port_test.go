package client_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/wrenn-dev/wrenn/client"
)

// echoPort answers a request for a raw connection to port 7 and echoes bytes.
func echoPort(t *testing.T) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != "/v1/sandboxes/abc/ports/7" || r.Header.Get("Upgrade") != "tcp" || r.Header.Get("Authorization") != "Bearer secret" {
			w.WriteHeader(http.StatusBadGateway)
			_, _ = io.WriteString(w, `{"sandboxId":"abc","message":"m","code":502,"error":{"code":"port_refused","message":"nothing listens"}}`)
			return
		}
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Errorf("hijack: %v", err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
		_, _ = io.Copy(conn, buffered)
	}
}

func TestDialPort(t *testing.T) {
	secure := httptest.NewUnstartedServer(echoPort(t))
	secure.EnableHTTP2 = true // which the client must not use
	secure.StartTLS()
	t.Cleanup(secure.Close)
	for name, c := range map[string]*client.Client{
		"clear text": serve(t, echoPort(t)),
		"TLS":        {BaseURL: secure.URL, APIKey: "secret", HTTPClient: secure.Client()},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		conn, err := c.DialPort(ctx, "abc", 7)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		cancel() // which does not end the open connection
		if _, err := io.WriteString(conn, "hello"); err != nil {
			t.Fatal(err)
		}
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(conn); string(got) != "hello" || err != nil {
			t.Errorf("%s: %q came back, %v", name, got, err)
		}
		if err := conn.Close(); err != nil {
			t.Errorf("%s: close: %v", name, err)
		}
		var refused *client.Error
		if _, err := c.DialPort(t.Context(), "abc", 8); !errors.As(err, &refused) || refused.Code != "port_refused" || refused.Status != 502 {
			t.Errorf("%s: a port on which nothing listens: %v, want port_refused", name, err)
		}
	}
	plain := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	if _, err := plain.DialPort(t.Context(), "abc", 7); err == nil {
		t.Error("an answer without an upgrade was taken for a connection")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := plain.DialPort(ended, "abc", 7); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v, want canceled", err)
	}
}

func TestPortURL(t *testing.T) {
	address := "http://{port}-abc.localhost:8080"
	if got, err := client.PortURL(&client.Traffic{URL: &address}, 80); got != "http://80-abc.localhost:8080/" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := client.PortURL(&client.Traffic{}, 80); err == nil {
		t.Error("a server without a domain has an address")
	}
}
