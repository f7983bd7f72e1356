// Package client is the Go client of Wrenn's REST API.
//
// It owns the requests and the decoding of answers, with one method for each
// operation of the API. The wrenn command line is built on it alone. It never
// retries, keeps no state between calls and depends on nothing outside the
// standard library.
//
//	c := &client.Client{BaseURL: "http://127.0.0.1:8080"}
//	sb, err := c.Create(ctx, client.CreateRequest{})
//	...
//	defer c.Destroy(context.WithoutCancel(ctx), sb.ID)
//	res, err := c.Exec(ctx, sb.ID, client.ExecRequest{Cmd: "python3", Args: []string{"-c", "print(6*7)"}})
//
// A failure that the server reports is an *Error; every other error means that
// the answer did not arrive, and the outcome of a change is then unknown.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// DefaultURL is where `wrenn up` listens.
const DefaultURL = "http://127.0.0.1:8080"

// Client calls one server. Its fields must not change after the first call; it
// is then safe for concurrent use.
type Client struct {
	// BaseURL is the server's address, with a path if it lives below one.
	// Empty means DefaultURL.
	BaseURL string
	// APIKey is sent with every request. A server on loopback may need none.
	APIKey string
	// HTTPClient carries the requests; nil means http.DefaultClient. A Timeout
	// set on it also ends long commands and transfers: prefer contexts.
	HTTPClient *http.Client
}

// request is one call before it is sent.
type request struct {
	method string
	path   string
	query  url.Values
	header http.Header
	// body is sent unchanged; length is its size in bytes, 0 if it is unknown.
	body   io.Reader
	length int64
}

// send does r and returns the answer if it is a success. The caller closes its
// body.
func (c *Client) send(ctx context.Context, r request) (*http.Response, error) {
	base := c.BaseURL
	if base == "" {
		base = DefaultURL
	}
	target := strings.TrimRight(base, "/") + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, r.body)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	if r.length > 0 {
		req.ContentLength = r.length
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	req.Header.Set("User-Agent", "wrenn-go")
	if key, ok := ctx.Value(idempotencyKey{}).(string); ok && r.method != http.MethodGet {
		req.Header.Set("Idempotency-Key", key)
	}
	if c.APIKey != "" {
		// Not X-API-Key: net/http drops this header when a redirect leads to
		// another host.
		req.Header.Set("Authorization", "Bearer "+c.APIKey)
	}
	httpClient := c.HTTPClient
	if httpClient == nil {
		httpClient = http.DefaultClient
	}
	resp, err := httpClient.Do(req)
	if err != nil {
		return nil, err
	}
	if (resp.StatusCode < 200 || resp.StatusCode > 299) && resp.StatusCode != http.StatusSwitchingProtocols {
		defer resp.Body.Close()
		return nil, errorFrom(resp)
	}
	return resp, nil
}

// call sends in as JSON, unless it is nil, and decodes the answer into out,
// unless that is nil. It returns the answer's header.
func (c *Client) call(ctx context.Context, r request, in, out any) (http.Header, error) {
	if in != nil {
		if err := r.setJSON(in); err != nil {
			return nil, err
		}
	}
	resp, err := c.send(ctx, r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if out == nil {
		return resp.Header, nil
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return nil, fmt.Errorf("client: %s %s: the answer is not what the API promises: %w", r.method, r.path, err)
	}
	return resp.Header, nil
}

func (r *request) setJSON(in any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("client: %w", err)
	}
	r.body = bytes.NewReader(body)
	if r.header == nil {
		r.header = http.Header{}
	}
	r.header.Set("Content-Type", "application/json")
	return nil
}

// sandboxPath returns the URL path of a sandbox, or of a part of it named by
// rest. It refuses text that is not an id, which could change the meaning of
// the URL.
func sandboxPath(id, rest string) (string, error) {
	if id == "" || strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return "", &Error{Status: http.StatusNotFound, Code: "sandbox_not_found",
			Message: fmt.Sprintf("%q is not a sandbox id: ids are lower-case letters and digits", id)}
	}
	return "/v1/sandboxes/" + id + rest, nil
}
