package bench

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wrenn-dev/wrenn/client"
)

// traffic measures the paths that other clients take into a sandbox: commands by the
// guest's public protocol, the output of a process, and a port.
func (r *run) traffic(ctx context.Context) error {
	sb, err := r.create(ctx, r.restoreSize)
	if err != nil {
		return err
	}
	if err := r.execTrue(ctx, sb.ID); err != nil {
		return err
	}
	if err := r.publicExecs(ctx, sb.ID); err != nil {
		return err
	}
	if err := r.attach(ctx, sb.ID); err != nil {
		return err
	}
	if r.FileBytes > 0 {
		return r.port(ctx, sb.ID, r.FileBytes, opPort)
	}
	return nil
}

// publicExecs measures commands by the protocol of E2B's clients beside those of the own
// API, in turn, so that both meet the same load.
func (r *run) publicExecs(ctx context.Context, id string) error {
	token, err := r.publicToken(ctx, id)
	if err != nil {
		return err
	}
	if err := r.publicExec(ctx, id, token); err != nil { // opens the connections
		return err
	}
	var own, public []float64
	for range execsPerRound {
		began := time.Now()
		if err := r.execTrue(ctx, id); err != nil {
			return err
		}
		own = append(own, ms(time.Since(began)))
		began = time.Now()
		if err := r.publicExec(ctx, id, token); err != nil {
			return err
		}
		public = append(public, ms(time.Since(began)))
		r.add(opPublicExec, public[len(public)-1])
	}
	slices.Sort(own)
	slices.Sort(public)
	r.add(opPublicAdded, median(public)-median(own))
	return nil
}

// publicToken returns the access token of the guest's public server, from E2B's API.
func (r *run) publicToken(ctx context.Context, id string) (string, error) {
	body, err := r.do(ctx, http.MethodGet, "/sandboxes/"+id, nil, http.Header{"X-Api-Key": {"e2b_" + strings.TrimPrefix(r.Client.APIKey, "wrn_")}})
	if err != nil {
		return "", err
	}
	defer body.Close()
	var out struct {
		Token string `json:"envdAccessToken"`
	}
	err = json.NewDecoder(io.LimitReader(body, 1<<20)).Decode(&out)
	if err == nil && out.Token == "" {
		err = fmt.Errorf("%w: the sandbox has no public server", errPermanent)
	}
	return out.Token, err
}

// Parts of an envelope of Connect's streams: one byte of flags, then the size.
const (
	envelopeHead = 5
	flagEnd      = 2
	maxEnvelope  = 1 << 20
)

// publicExec runs true by process.Process/Start and waits for its end.
func (r *run) publicExec(ctx context.Context, id, token string) error {
	body, err := r.publicStream(ctx, id, token, "Start", `{"process":{"cmd":"true"}}`)
	if err != nil {
		return err
	}
	defer body.Close()
	return readStream(body, func([]byte) {})
}

// publicStream calls a procedure of process.Process that answers with a stream.
func (r *run) publicStream(ctx context.Context, id, token, procedure, message string) (io.ReadCloser, error) {
	request := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	header := publicHeader(id, token)
	header.Set("Content-Type", "application/connect+json")
	header.Set("Connect-Protocol-Version", "1")
	return r.do(ctx, http.MethodPost, "/process.Process/"+procedure, bytes.NewReader(append(request, message...)), header)
}

// publicHeader leads a request to the guest's public server, as root.
func publicHeader(id, token string) http.Header {
	return http.Header{
		"X-Access-Token": {token}, "Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte("root:"))},
		"E2b-Sandbox-Id": {id}, "E2b-Sandbox-Port": {"49983"},
	}
}

// readStream reads the events of a process, which each gets, until its end. It is an
// error if the stream ends before the process.
func readStream(body io.Reader, each func(event []byte)) error {
	ended := false
	for {
		flags, text, err := readEnvelope(body)
		switch {
		case err != nil:
			return fmt.Errorf("the stream of a command: %w", err)
		case flags&flagEnd != 0 && ended && !bytes.Contains(text, []byte(`"error"`)):
			return nil
		case flags&flagEnd != 0:
			return fmt.Errorf("the stream of a command ended with %.200s", text)
		}
		ended = ended || bytes.Contains(text, []byte(`"end"`))
		each(text)
	}
}

func readEnvelope(from io.Reader) (flags byte, message []byte, err error) {
	var head [envelopeHead]byte
	if _, err := io.ReadFull(from, head[:]); err != nil {
		return 0, nil, err
	}
	size := binary.BigEndian.Uint32(head[1:])
	if size > maxEnvelope {
		return 0, nil, fmt.Errorf("a message has %d bytes", size)
	}
	message = make([]byte, size)
	_, err = io.ReadFull(from, message)
	return head[0], message, err
}

// attach measures the time from the request for the output of a process that has written
// some until its first byte.
func (r *run) attach(ctx context.Context, id string) error {
	p, err := r.Client.StartProcess(ctx, id, client.ProcessRequest{Cmd: "echo", Args: []string{"x"}})
	if err != nil {
		return err
	}
	if _, err := r.Client.WaitProcess(ctx, id, p.ID); err != nil {
		return err
	}
	for range execsPerRound {
		began := time.Now()
		if err := r.firstByte(ctx, id, p.ID); err != nil {
			return fmt.Errorf("attach: %w", err)
		}
		r.addTime(opAttach, time.Since(began))
	}
	return nil
}

func (r *run) firstByte(ctx context.Context, id, process string) error {
	a, err := r.Client.Attach(ctx, id, process, client.AttachOptions{})
	if err != nil {
		return err
	}
	defer a.Close()
	for {
		e, err := a.Next()
		if err != nil {
			return err
		}
		if len(e.Data) > 0 {
			return nil
		}
	}
}

// benchPort is the port of portScript, which answers each request of HTTP with a number
// of MiB.
const benchPort = 18080

var portScript = fmt.Sprintf(`import socket, sys
n, block = int(sys.argv[1]), b"x" * (1 << 20)
l = socket.create_server(("0.0.0.0", %d))
while True:
    c, _ = l.accept()
    c.recv(65536)
    c.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %%d\r\n\r\n" %% (n << 20))
    for i in range(n):
        c.sendall(block)
    c.close()
`, benchPort)

// portPatience bounds the time until portScript listens.
const portPatience = 30 * time.Second

// port measures, as op, the throughput of a program that listens in the sandbox.
func (r *run) port(ctx context.Context, id string, bytes int64, op string) error {
	mib := bytes >> 20
	_, err := r.Client.StartProcess(ctx, id, client.ProcessRequest{Cmd: "python3", Args: []string{"-c", portScript, strconv.FormatInt(mib, 10)}})
	if err != nil {
		return err
	}
	header := http.Header{"Authorization": {"Bearer " + r.Client.APIKey}}
	for end := time.Now().Add(portPatience); ; {
		began := time.Now()
		body, err := r.do(ctx, http.MethodGet, fmt.Sprintf("/v1/sandboxes/%s/ports/%d/", id, benchPort), nil, header)
		if err == nil {
			n, err := io.Copy(io.Discard, body)
			_ = body.Close()
			if err == nil && n != mib<<20 {
				err = fmt.Errorf("%d bytes came, want %d", n, mib<<20)
			}
			if err != nil {
				return fmt.Errorf("a port: %w", err)
			}
			r.add(op, rate(bytes, began))
			return nil
		}
		if !errors.Is(err, errNotListening) || time.Now().After(end) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// sizedBody is a body of size bytes. Clients of E2B send the length of a file with it.
type sizedBody struct {
	io.Reader
	size int64
}

// errNotListening marks an answer of the server in place of the program.
var errNotListening = errors.New("the program does not answer")

// do sends a request that the client of the own API has no method for. The caller closes
// the answer.
func (r *run) do(ctx context.Context, method, path string, body io.Reader, header http.Header) (io.ReadCloser, error) {
	base := r.Client.BaseURL
	if base == "" {
		base = client.DefaultURL
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(base, "/")+path, body)
	if err != nil {
		return nil, err
	}
	// E2B's clients list several encodings, and are sent the bytes of a file. A Go client
	// would ask for gzip alone.
	req.Header.Set("Accept-Encoding", "gzip, deflate")
	for name, values := range header {
		req.Header[name] = values
	}
	if sized, ok := body.(sizedBody); ok {
		req.ContentLength = sized.size
	}
	h := r.Client.HTTPClient
	if h == nil {
		h = http.DefaultClient
	}
	res, err := h.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 300))
		_ = res.Body.Close()
		err := fmt.Errorf("%s %s: %s %s", method, path, res.Status, text)
		if res.StatusCode == http.StatusBadGateway {
			err = fmt.Errorf("%w: %w", errNotListening, err)
		}
		return nil, err
	}
	return res.Body, nil
}
