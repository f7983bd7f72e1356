package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"github.com/wrenn-dev/wrenn/api/types"
)

// FileEntry describes a file of any type, and a link itself.
type FileEntry = types.FileEntry

// MakeDirectoryRequest is a directory to make.
type MakeDirectoryRequest = types.MakeDirectoryRequest

// MoveFileRequest is a file or directory to move.
type MoveFileRequest = types.MoveFileRequest

// The values of FileEntry.Type.
const (
	FileTypeFile      = "file"
	FileTypeDirectory = "directory"
	FileTypeSymlink   = "symlink"
	FileTypeFIFO      = "fifo"
	FileTypeSocket    = "socket"
	FileTypeDevice    = "device"
)

// Files returns the entries below a directory of a sandbox, depth levels deep, in the
// order of their names, a directory before its entries. It asks for pages as they are
// needed. Links are not followed.
func (c *Client) Files(ctx context.Context, id, path string, depth int) iter.Seq2[FileEntry, error] {
	return func(yield func(FileEntry, error) bool) {
		cursor := ""
		for {
			page, next, err := c.filesPage(ctx, id, path, depth, cursor)
			if err != nil {
				yield(FileEntry{}, err)
				return
			}
			for _, e := range page {
				if !yield(e, nil) {
					return
				}
			}
			if cursor = next; cursor == "" {
				return
			}
		}
	}
}

func (c *Client) filesPage(ctx context.Context, id, path string, depth int, cursor string) ([]FileEntry, string, error) {
	query := url.Values{"path": {path}, "depth": {strconv.Itoa(depth)}}
	if cursor != "" {
		query.Set("cursor", cursor)
	}
	var page []FileEntry
	header, err := c.onFiles(ctx, id, request{method: http.MethodGet, path: "/list", query: query}, nil, &page)
	return page, header.Get("X-Next-Cursor"), err
}

// StatFile describes a file of a sandbox, or with follow the target of a link.
func (c *Client) StatFile(ctx context.Context, id, path string, follow bool) (*FileEntry, error) {
	query := url.Values{"path": {path}, "follow": {strconv.FormatBool(follow)}}
	out := new(FileEntry)
	_, err := c.onFiles(ctx, id, request{method: http.MethodGet, path: "/stat", query: query}, nil, out)
	return out, err
}

// MakeDirectory makes a directory in a sandbox.
func (c *Client) MakeDirectory(ctx context.Context, id string, in MakeDirectoryRequest) (*FileEntry, error) {
	out := new(FileEntry)
	_, err := c.onFiles(ctx, id, request{method: http.MethodPost, path: "/mkdir"}, in, out)
	return out, err
}

// MoveFile moves or renames a file or a directory within a sandbox.
func (c *Client) MoveFile(ctx context.Context, id string, in MoveFileRequest) (*FileEntry, error) {
	out := new(FileEntry)
	_, err := c.onFiles(ctx, id, request{method: http.MethodPost, path: "/move"}, in, out)
	return out, err
}

// RemoveFile removes a file, an empty directory, or with recursive a directory with
// everything in it.
func (c *Client) RemoveFile(ctx context.Context, id, path string, recursive bool) error {
	query := url.Values{"path": {path}, "recursive": {strconv.FormatBool(recursive)}}
	_, err := c.onFiles(ctx, id, request{method: http.MethodDelete, query: query}, nil, nil)
	return err
}

// onFiles does r, whose path is below the files of a sandbox.
func (c *Client) onFiles(ctx context.Context, id string, r request, in, out any) (http.Header, error) {
	path, err := sandboxPath(id, "/files"+r.path)
	if err != nil {
		return nil, err
	}
	r.path = path
	return c.call(ctx, r, in, out)
}
