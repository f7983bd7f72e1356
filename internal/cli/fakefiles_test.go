package cli_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"

	"github.com/wrenn-dev/wrenn/api/types"
	"github.com/wrenn-dev/wrenn/client"
	"github.com/wrenn-dev/wrenn/internal/archive"
)

// The directories of a fake sandbox are those of this machine, as for its commands.

func (f *fake) stat(w http.ResponseWriter, r *http.Request, _ *client.Sandbox) {
	path := r.URL.Query().Get("path")
	st, err := os.Stat(path)
	if err != nil {
		refuse(w, 404, "file_not_found", "path '"+path+"' does not exist")
		return
	}
	e := types.FileEntry{Path: path, Type: client.FileTypeFile, Mode: fmt.Sprintf("%04o", st.Mode().Perm()), Size: st.Size()}
	if st.IsDir() {
		e.Type = client.FileTypeDirectory
	}
	answer(w, 200, e)
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
