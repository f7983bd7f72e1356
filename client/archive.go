package client

import (
	"context"
	"io"
	"net/http"
	"net/url"
)

// WriteArchive unpacks the tar of content below a directory of a sandbox, which is made
// if it is missing. Everything new belongs to user; empty is the guest's default user.
// After a failure a part of the entries has been written, each of them whole.
func (c *Client) WriteArchive(ctx context.Context, id, path, user string, content io.Reader) error {
	endpoint, err := sandboxPath(id, "/files/tar")
	if err != nil {
		return err
	}
	resp, err := c.send(ctx, request{
		method: http.MethodPost, path: endpoint, query: fileQuery(path, user),
		header: http.Header{"Content-Type": {"application/x-tar"}, "Expect": {"100-continue"}},
		body:   io.NopCloser(content),
	})
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// ReadArchive opens a directory or a file of a sandbox as a tar, without compression.
// An incomplete transfer ends with an error other than io.EOF. The sandbox chose the
// names and links in it; do not let them lead out of the directory to which the archive
// is unpacked. The caller closes the archive.
func (c *Client) ReadArchive(ctx context.Context, id, path string) (io.ReadCloser, error) {
	endpoint, err := sandboxPath(id, "/files/tar")
	if err != nil {
		return nil, err
	}
	resp, err := c.send(ctx, request{
		method: http.MethodGet, path: endpoint, query: url.Values{"path": {path}},
		header: http.Header{"Accept-Encoding": {"identity"}},
	})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}
