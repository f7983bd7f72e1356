package cli_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/wrenn-dev/wrenn/api/types"
	"github.com/wrenn-dev/wrenn/client"
	"github.com/wrenn-dev/wrenn/internal/archive"
)

// The directories of a fake sandbox are those of this machine, as for its commands.

func (f *fake) stat(w http.ResponseWriter, r *http.Request, _ *client.Sandbox) {
	path := r.URL.Query().Get("path")
	stat := os.Lstat
	if r.URL.Query().Get("follow") == "true" {
		stat = os.Stat
	}
	st, err := stat(path)
	if err != nil {
		refuse(w, 404, "file_not_found", "path '"+path+"' does not exist")
		return
	}
	answer(w, 200, entryOf(path, st))
}

func entryOf(path string, st os.FileInfo) types.FileEntry {
	e := types.FileEntry{
		Name: st.Name(), Path: path, Type: client.FileTypeFile, Mode: fmt.Sprintf("%04o", st.Mode().Perm()), Size: st.Size(),
		Owner: "root", Group: "1000", ModifiedAt: time.Unix(1_700_000_000, 0).UTC(),
	}
	switch {
	case st.IsDir():
		e.Type = client.FileTypeDirectory
	case st.Mode()&os.ModeSymlink != 0:
		target, _ := os.Readlink(path)
		e.Type, e.Target = client.FileTypeSymlink, &target
	}
	return e
}

// listFiles answers with one entry a page.
func (f *fake) listFiles(w http.ResponseWriter, r *http.Request, _ *client.Sandbox) {
	q := r.URL.Query()
	found, err := os.ReadDir(q.Get("path"))
	if err != nil {
		refuse(w, 404, "file_not_found", err.Error())
		return
	}
	page := []types.FileEntry{}
	for i, e := range found {
		if e.Name() <= q.Get("cursor") {
			continue
		}
		if st, err := e.Info(); err == nil {
			page = append(page, entryOf(filepath.Join(q.Get("path"), e.Name()), st))
		}
		if i < len(found)-1 {
			w.Header().Set("X-Next-Cursor", e.Name())
		}
		break
	}
	answer(w, 200, page)
}

func (f *fake) moveFile(w http.ResponseWriter, r *http.Request, _ *client.Sandbox) {
	var in client.MoveFileRequest
	err := json.NewDecoder(r.Body).Decode(&in)
	if _, there := os.Lstat(in.To); err == nil && there == nil && !in.Overwrite {
		refuse(w, 409, "path_exists", "path '"+in.To+"' exists already")
		return
	}
	if err == nil {
		err = os.Rename(in.From, in.To)
	}
	if err != nil {
		refuse(w, 404, "file_not_found", err.Error())
		return
	}
	answer(w, 200, types.FileEntry{Path: in.To, Type: client.FileTypeFile})
}

func (f *fake) removeFile(w http.ResponseWriter, r *http.Request, _ *client.Sandbox) {
	remove := os.Remove
	if r.URL.Query().Get("recursive") == "true" {
		remove = os.RemoveAll
	}
	if err := remove(r.URL.Query().Get("path")); err != nil {
		refuse(w, 409, "directory_not_empty", "the directory has entries")
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// watchFiles sends one change, the loss of others and the end of the directory.
func (f *fake) watchFiles(w http.ResponseWriter, r *http.Request, _ *client.Sandbox) {
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprintf(w, "event: ready\ndata: {}\n\n: alive\n\nevent: change\ndata: {\"type\":\"created\",\"path\":\"%s/\\u001bnew\"}\n\n", r.URL.Query().Get("path"))
	fmt.Fprint(w, "event: overflow\ndata: {}\n\nevent: error\ndata: {\"error\":{\"code\":\"file_not_found\",\"message\":\"the watched directory was removed or moved\"}}\n\n")
}

func (f *fake) signFile(w http.ResponseWriter, r *http.Request, _ *client.Sandbox) {
	var in client.SignFileRequest
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		refuse(w, 400, "invalid_json", err.Error())
		return
	}
	at := fmt.Sprintf("http://wrenn.test%s?%s&%d&%d", in.Path, in.Operation, in.ExpiresInSec, in.MaxBytes)
	answer(w, 200, types.SignedURL{URL: at, Method: "GET", ExpiresAt: time.Unix(1_700_000_000, 0).UTC()})
}

func (f *fake) mkdir(w http.ResponseWriter, r *http.Request, _ *client.Sandbox) {
	var in client.MakeDirectoryRequest
	err := json.NewDecoder(r.Body).Decode(&in)
	if err == nil {
		err = os.MkdirAll(in.Path, 0o755)
	}
	if err != nil {
		refuse(w, 400, "invalid_path", err.Error())
		return
	}
	answer(w, 200, types.FileEntry{Path: in.Path, Type: client.FileTypeDirectory, Mode: in.Mode})
}

func (f *fake) pack(w http.ResponseWriter, r *http.Request, _ *client.Sandbox) {
	root, err := os.OpenRoot(r.URL.Query().Get("path"))
	if err != nil {
		refuse(w, 404, "file_not_found", err.Error())
		return
	}
	defer root.Close()
	w.Header().Set("Content-Type", "application/x-tar")
	if _, err := archive.Pack(r.Context(), root, ".", w, archive.Packing{}); err != nil {
		panic(http.ErrAbortHandler)
	}
}

func (f *fake) unpack(w http.ResponseWriter, r *http.Request, _ *client.Sandbox) {
	root, err := os.OpenRoot(r.URL.Query().Get("path"))
	if err == nil {
		defer root.Close()
		_, err = archive.Unpack(r.Context(), root, r.Body, archive.Unpacking{ForeignLinks: true})
	}
	if err != nil {
		refuse(w, 400, "invalid_archive", err.Error())
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
