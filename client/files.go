package client

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
)

// Upload describes the destination of a file.
type Upload struct {
	// Path is an absolute path inside the sandbox. Missing parent directories
	// are created.
	Path string
	// User owns the file; empty is the guest's default user.
	User string
	// Mode is the permission bits; 0 is the server's default, 0644.
	Mode fs.FileMode
	// Size is the size of the file in bytes, with which the server can refuse a
	// file that is too large at once. Zero means unknown.
	Size int64
}

// File is a download in progress. The caller closes Body.
type File struct {
	// Name is the last element of the path.
	Name string
	// Size is the size in bytes, or -1 if it is not known beforehand, as for
	// files of /proc.
	Size int64
	// Body is the content. An incomplete transfer ends with an error other than
	// io.EOF.
	Body io.ReadCloser
}

// WriteFile replaces a file inside a sandbox with content. The transfer is
// streamed and atomic: an incomplete one leaves the previous file unchanged.
func (c *Client) WriteFile(ctx context.Context, id string, to Upload, content io.Reader) error {
	path, err := sandboxPath(id, "/files")
	if err != nil {
		return err
	}
	query := fileQuery(to.Path, to.User)
	if to.Mode != 0 {
		query.Set("mode", fmt.Sprintf("%04o", to.Mode.Perm()))
	}
	resp, err := c.send(ctx, request{
		method: http.MethodPut, path: path, query: query,
		header: http.Header{
			"Content-Type": {"application/octet-stream"},
			// The server can then refuse the upload before the content is sent.
			"Expect": {"100-continue"},
		},
		// Hides the other methods of content: net/http would close it.
		body: io.NopCloser(content), length: to.Size,
	})
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// ReadFile opens a file inside a sandbox. Cancelling ctx ends the transfer.
// user is the user who reads the file; empty is the guest's default user.
func (c *Client) ReadFile(ctx context.Context, id, path, user string) (*File, error) {
	endpoint, err := sandboxPath(id, "/files")
	if err != nil {
		return nil, err
	}
	resp, err := c.send(ctx, request{method: http.MethodGet, path: endpoint, query: fileQuery(path, user)})
	if err != nil {
		return nil, err
	}
	f := &File{Size: resp.ContentLength, Body: resp.Body}
	if _, params, err := mime.ParseMediaType(resp.Header.Get("Content-Disposition")); err == nil {
		f.Name = params["filename"]
	}
	return f, nil
}

func fileQuery(path, user string) url.Values {
	q := url.Values{"path": {path}}
	if user != "" {
		q.Set("user", user)
	}
	return q
}
