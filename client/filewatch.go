package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/wrenn-dev/wrenn/api/types"
)

// FileChange is a change in a watched directory.
type FileChange = types.FileChange

// The values of FileChange.Type. FileOverflow is the client's: changes were lost, and the
// directory has to be listed again.
const (
	FileCreated    = "created"
	FileWritten    = "written"
	FileRemoved    = "removed"
	FileRenamed    = "renamed"
	FileAttributes = "attributes"
	FileOverflow   = "overflow"
)

// FileWatch reads the changes in a directory. One goroutine uses it; Close may be called
// from any.
type FileWatch struct{ *sentEvents }

// WatchFiles returns once the watch of a directory is armed, so that no later change is
// missed. The end of ctx ends the watch.
func (c *Client) WatchFiles(ctx context.Context, id, path string, recursive bool) (*FileWatch, error) {
	endpoint, err := sandboxPath(id, "/files/watch")
	if err != nil {
		return nil, err
	}
	query := url.Values{"path": {path}, "recursive": {strconv.FormatBool(recursive)}}
	events, err := c.openEvents(ctx, request{method: http.MethodGet, path: endpoint, query: query})
	if err != nil {
		return nil, err
	}
	w := &FileWatch{events}
	for {
		name, data, err := w.next()
		switch {
		case err == nil && name == "error":
			err = w.failure(data)
		case err == nil && name == "ready":
			return w, nil
		}
		if err != nil {
			_ = w.Close()
			return nil, err
		}
	}
}

// Next returns the next change. A watch ends with an error only, which is an *Error if
// the server gave a reason: the directory has gone, or the sandbox was paused.
func (w *FileWatch) Next() (FileChange, error) {
	for {
		name, data, err := w.next()
		switch {
		case err != nil:
			return FileChange{}, fmt.Errorf("client: the watch broke off: %w", err)
		case name == "error":
			return FileChange{}, w.failure(data)
		case name == "overflow":
			return FileChange{Type: FileOverflow}, nil
		case name == "change":
			var change FileChange
			if err := json.Unmarshal(data, &change); err != nil {
				return FileChange{}, badEvent(err)
			}
			return change, nil
		}
	}
}
