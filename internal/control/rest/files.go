package rest

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/wrenn-dev/wrenn/api/types"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

const (
	// maxDepth is the largest number of levels of a listing.
	maxDepth = 64
	// maxFileCursor bounds the cursor of a listing: a path in base64.
	maxFileCursor = 6 << 10
)

// onFiles does the operation that read returns on the files of a sandbox. It reports
// false when it has answered with a failure.
func (s *server) onFiles(w http.ResponseWriter, r *http.Request, read func(url.Values) (control.FileCall, error)) (control.FilePage, bool) {
	id, err := idOf(r)
	var q url.Values
	if err == nil {
		q, err = readQuery(r)
	}
	var call control.FileCall
	if err == nil {
		call, err = read(q)
	}
	var page control.FilePage
	if err == nil {
		page, err = s.Sandboxes.CallFile(r.Context(), id, call)
	}
	if err != nil {
		s.fail(w, r, err)
		return control.FilePage{}, false
	}
	return page, true
}

// listFiles answers with a page of the entries below a directory.
func (s *server) listFiles(w http.ResponseWriter, r *http.Request) {
	dir := ""
	page, ok := s.onFiles(w, r, func(q url.Values) (control.FileCall, error) {
		list, err := readFileList(q)
		dir = list.Path
		return list, err
	})
	if !ok {
		return
	}
	out := make([]types.FileEntry, 0, len(page.Entries))
	for _, e := range page.Entries {
		out = append(out, fileEntryJSON(e, path.Join(dir, e.Name)))
	}
	if page.More {
		last := page.Entries[len(page.Entries)-1].Name
		linkNext(w, r, base64.RawURLEncoding.EncodeToString([]byte(last)))
	}
	writeJSON(w, http.StatusOK, out)
}

func readFileList(q url.Values) (control.FileList, error) {
	list := control.FileList{Depth: 1}
	var err error
	if list.Path, err = one(q, "path"); err != nil {
		return list, err
	}
	if q.Has("depth") {
		depth, err := one(q, "depth")
		if err != nil {
			return list, err
		}
		if list.Depth, err = strconv.Atoi(depth); err != nil || list.Depth < 1 || list.Depth > maxDepth {
			return list, fault.New(fault.Invalid, "invalid_depth", "depth must be from 1 to %d", maxDepth)
		}
	}
	if list.Limit, err = limitIn(q); err != nil {
		return list, err
	}
	if list.Limit == 0 {
		list.Limit = maxListLimit
	}
	list.After, err = fileCursor(q)
	return list, err
}

// fileCursor returns the name in the cursor of a listing.
func fileCursor(q url.Values) (string, error) {
	cursor, err := one(q, "cursor")
	if err != nil {
		return "", err
	}
	name, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || len(cursor) > maxFileCursor || cursor != "" && !isEntryName(string(name)) {
		return "", fault.New(fault.Invalid, "invalid_cursor", "cursor is not one that a list returned")
	}
	return string(name), nil
}

// isEntryName reports whether name may be that of an entry: a clean path below the
// listed directory. Another one would make an honest guest list other directories.
func isEntryName(name string) bool {
	return filepath.IsLocal(name) && path.Clean(name) == name && name != "." && !strings.ContainsRune(name, 0)
}

// statFile answers with one file.
func (s *server) statFile(w http.ResponseWriter, r *http.Request) {
	var stat control.FileStat
	page, ok := s.onFiles(w, r, func(q url.Values) (call control.FileCall, err error) {
		if stat.Path, err = one(q, "path"); err == nil {
			stat.Follow, err = flagIn(q, "follow")
		}
		return stat, err
	})
	if ok {
		writeEntry(w, page, stat.Path)
	}
}

// makeDir makes a directory.
func (s *server) makeDir(w http.ResponseWriter, r *http.Request) {
	dir := control.FileMakeDir{Parents: true}
	page, ok := s.onFiles(w, r, func(url.Values) (control.FileCall, error) {
		var mode *string
		err := readJSON(w, r, fields{"path": &dir.Path, "parents": &dir.Parents, "mode": &mode, "user": &dir.User})
		if err == nil {
			err = validateUser(dir.User)
		}
		if err == nil && mode != nil {
			dir.Mode, err = parseMode(*mode)
		}
		return dir, err
	})
	if ok {
		writeEntry(w, page, dir.Path)
	}
}

// moveFile renames a file or a directory.
func (s *server) moveFile(w http.ResponseWriter, r *http.Request) {
	var move control.FileMove
	page, ok := s.onFiles(w, r, func(url.Values) (control.FileCall, error) {
		err := readJSON(w, r, fields{"from": &move.From, "to": &move.To, "overwrite": &move.Overwrite, "user": &move.User})
		if err == nil {
			err = validateUser(move.User)
		}
		return move, err
	})
	if ok {
		writeEntry(w, page, move.To)
	}
}

// removeFile removes a file or a directory.
func (s *server) removeFile(w http.ResponseWriter, r *http.Request) {
	_, ok := s.onFiles(w, r, func(q url.Values) (call control.FileCall, err error) {
		var remove control.FileRemove
		if remove.Path, err = one(q, "path"); err == nil {
			remove.Recursive, err = flagIn(q, "recursive")
		}
		return remove, err
	})
	if ok {
		w.WriteHeader(http.StatusNoContent)
	}
}

// flagIn returns a query parameter that is true or false; false when absent.
func flagIn(q url.Values, name string) (bool, error) {
	given, err := one(q, name)
	if err != nil || given != "true" && given != "false" && q.Has(name) {
		return false, fault.Wrap(err, fault.Invalid, "invalid_query", "%s must be true or false", name)
	}
	return given == "true", nil
}

// writeEntry answers with the only entry of page, which is at path.
func writeEntry(w http.ResponseWriter, page control.FilePage, at string) {
	writeJSON(w, http.StatusOK, fileEntryJSON(page.Entries[0], path.Clean(at)))
}

// fileEntryJSON returns e as the API describes it. A byte that is no UTF-8 becomes
// U+FFFD.
func fileEntryJSON(e control.FileEntry, at string) types.FileEntry {
	text := func(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
	out := types.FileEntry{
		Name: text(path.Base(at)), Path: text(at), Type: string(e.Type), Size: e.Size, Mode: fmt.Sprintf("%04o", e.Mode),
		Owner: text(e.Owner), Group: text(e.Group), ModifiedAt: e.ModifiedAt.UTC(),
	}
	if e.Type == control.FileSymlink {
		target := text(e.Target)
		out.Target = &target
	}
	return out
}

// parseMode returns permission bits that are given in octal.
func parseMode(text string) (*uint32, error) {
	mode, err := strconv.ParseUint(text, 8, 32)
	if err != nil || mode > 0o7777 || len(text) < 3 || len(text) > 5 {
		return nil, fault.New(fault.Invalid, "invalid_mode", "mode must be permission bits in octal, such as 0644")
	}
	bits := uint32(mode)
	return &bits, nil
}
