package guestclient

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"sync"
)

// WriteFile says where content goes.
type WriteFile struct {
	// Path is as the guest resolves it; User owns the file and may be empty.
	Path, User string
	// Mode is permission bits; nil is the guest's default.
	Mode *uint32
}

// File is a file being read. The caller closes Body.
type File struct {
	Name string
	// Size is -1 when it is not known beforehand.
	Size int64
	Body io.ReadCloser
}

func basicAuth(user string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"))
}

func filesURL(path, user string, mode *uint32) string {
	q := url.Values{"path": {path}}
	if user != "" {
		q.Set("username", user)
	}
	if mode != nil {
		q.Set("mode", strconv.FormatUint(uint64(*mode), 8))
	}
	return baseURL + "/files?" + q.Encode()
}

// WriteFile replaces one file with the content of r and returns how much that
// was. The guest replaces it whole or not at all; r is not read after the
// return. An error of r comes back as it is.
func (c *Client) WriteFile(ctx context.Context, w WriteFile, r io.Reader) (int64, error) {
	body := &uploadBody{r: r}
	defer body.stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, filesURL(w.Path, w.User, w.Mode), body)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	// The guest refuses a bad path before the content is sent.
	req.Header.Set("Expect", "100-continue")
	resp, err := c.Do(req)
	if own := body.failure(); own != nil {
		if err == nil {
			_ = resp.Body.Close()
		}
		return 0, own
	}
	if err != nil {
		return 0, c.transferFault(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, errResponse(resp)
	}
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxErrorBytes)); err != nil {
		return 0, c.transferFault(ctx, err)
	}
	return body.size(), nil
}

// ReadFile opens one file of the guest.
func (c *Client) ReadFile(ctx context.Context, name, user string) (File, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, filesURL(name, user, nil), nil)
	if err != nil {
		return File{}, err
	}
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := c.Do(req)
	if err != nil {
		return File{}, c.transferFault(ctx, err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return File{}, errResponse(resp)
	}
	body := &downloadBody{ReadCloser: resp.Body, client: c, ctx: ctx}
	return File{Name: path.Base(name), Size: resp.ContentLength, Body: body}, nil
}

// transferFault classifies a broken transfer.
func (c *Client) transferFault(ctx context.Context, err error) error {
	if c.life.Err() != nil {
		return errClosed
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
		return c.fault(ctx, err)
	}
	return errBroken(err)
}

// uploadBody is a request body that counts, remembers its own failure and is
// not read after stop: the transport may hold on to it after its answer.
type uploadBody struct {
	mu      sync.Mutex // protects the following
	r       io.Reader
	n       int64
	err     error
	stopped bool
}

var errStopped = errors.New("the upload has been answered")

// Read implements io.Reader.
func (u *uploadBody) Read(p []byte) (int, error) {
	u.mu.Lock()
	r, stopped := u.r, u.stopped
	u.mu.Unlock()
	if stopped {
		return 0, errStopped
	}
	n, err := r.Read(p)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.n += int64(n)
	if err != nil && !errors.Is(err, io.EOF) && !u.stopped {
		u.err = err
	}
	return n, err
}

// Close implements io.Closer. The reader is the caller's to close.
func (u *uploadBody) Close() error {
	u.stop()
	return nil
}

func (u *uploadBody) stop() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.stopped = true
}

func (u *uploadBody) failure() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.err
}

func (u *uploadBody) size() int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.n
}

// downloadBody classifies what goes wrong with a response body.
type downloadBody struct {
	io.ReadCloser
	client *Client
	ctx    context.Context
}

// Read implements io.Reader.
func (d *downloadBody) Read(p []byte) (int, error) {
	n, err := d.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = d.client.transferFault(d.ctx, err)
	}
	return n, err
}
