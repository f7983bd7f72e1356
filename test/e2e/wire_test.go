package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/client"
)

func trySh(ctx context.Context, c *client.Client, id, script string) (string, error) {
	res, err := c.Exec(ctx, id, client.ExecRequest{Cmd: "/bin/sh", Args: []string{"-c", script}, Timeout: 2 * time.Minute})
	if err != nil {
		return "", err
	}
	if res.ExitCode != 0 {
		return "", fmt.Errorf("exit code %d: %s%s", res.ExitCode, res.Stdout, res.Stderr)
	}
	return strings.TrimSpace(string(res.Stdout)), nil
}

// answer is an HTTP response that has been read.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// call sends a request. body is text, bytes, or a value that is encoded as
// JSON; header is name, value, ....
func call(t testing.TB, c *client.Client, method, path string, body any, header ...string) answer {
	t.Helper()
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		r = strings.NewReader(b)
	case []byte:
		r = bytes.NewReader(b)
	default:
		raw, err := json.Marshal(b)
		check(t, err)
		r = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, c.BaseURL+path, r)
	check(t, err)
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
			continue
		}
		req.Header.Set(header[i], header[i+1])
	}
	if c.APIKey != "" {
		req.Header.Set("Authorization", "Bearer "+c.APIKey)
	}
	via := c.HTTPClient
	if via == nil {
		via = http.DefaultClient
	}
	resp, err := via.Do(req)
	check(t, err)
	defer resp.Body.Close()
	read, err := io.ReadAll(resp.Body)
	check(t, err)
	return answer{resp.StatusCode, resp.Header, read}
}

// object checks that the status is want, and decodes a JSON object.
func (a answer) object(t testing.TB, want int) map[string]any {
	t.Helper()
	if a.status != want {
		t.Fatalf("answered %d %s, want %d", a.status, a.body, want)
	}
	var out map[string]any
	if err := json.Unmarshal(a.body, &out); err != nil {
		t.Fatalf("%s: %v", a.body, err)
	}
	return out
}

// wantError checks that the answer is an error of the API, and returns its
// message.
func (a answer) wantError(t testing.TB, status int, code string) string {
	t.Helper()
	var out struct {
		Error struct{ Code, Message string }
	}
	if err := json.Unmarshal(a.body, &out); err != nil || a.status != status || out.Error.Code != code {
		t.Fatalf("answered %d %s, want %d with the code %s", a.status, a.body, status, code)
	}
	if out.Error.Message == "" || a.header.Get("X-Request-Id") == "" || a.header.Get("Content-Type") != "application/json" {
		t.Errorf("%s: message %q, header %v", code, out.Error.Message, a.header)
	}
	return out.Error.Message
}

// form is the multipart body of an upload.
func form(t testing.TB, path string, content []byte) (body []byte, contentType string) {
	t.Helper()
	var buf bytes.Buffer
	w := multipart.NewWriter(&buf)
	check(t, w.WriteField("path", path))
	part, err := w.CreateFormFile("file", "upload")
	check(t, err)
	_, err = part.Write(content)
	check(t, err)
	check(t, w.Close())
	return buf.Bytes(), w.FormDataContentType()
}
