package cli_test

import (
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/wrenn-dev/wrenn/client"
)

// add puts a running sandbox there.
func (f *fake) add(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sandboxes = append(f.sandboxes, &client.Sandbox{ID: id, Status: client.StatusRunning, Metadata: map[string]string{}})
}

// traffic has the ports that the create of a sandbox made public.
func (f *fake) traffic(w http.ResponseWriter, _ *http.Request, sb *client.Sandbox) {
	f.mu.Lock()
	defer f.mu.Unlock()
	token, url := "trf_1", "http://{port}-"+sb.ID+".localhost:8080"
	answer(w, 200, client.Traffic{PublicPorts: slices.Clone(f.public), Token: &token, URL: &url})
}

// port is the API's raw connection: port 7 of each sandbox echoes.
func (f *fake) port(w http.ResponseWriter, r *http.Request, _ *client.Sandbox) {
	if r.PathValue("port") != "7" || !strings.EqualFold(r.Header.Get("Upgrade"), "tcp") {
		refuse(w, 502, "port_refused", "nothing listens on port "+r.PathValue("port")+" of the sandbox")
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
	_, _ = io.Copy(conn, buffered)
}
