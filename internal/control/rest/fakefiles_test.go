package rest

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// fakeNames are the names below every directory of the fake file system.
var fakeNames = []string{"a", "b\xff", "c", "c/d"}

func fakeEntry(name string) control.FileEntry {
	e := control.FileEntry{
		Name: name, Type: control.FileRegular, Size: 3, Mode: 0o640, Owner: "root", Group: "1000",
		ModifiedAt: time.Unix(1_700_000_000, 0).UTC(),
	}
	switch name {
	case "c":
		e.Type, e.Mode = control.FileDirectory, 0o1777
	case "a":
		e.Type, e.Target = control.FileSymlink, "c/d"
	}
	return e
}

// CallFile answers about the fake file system and records the operation.
func (f *fakeSandboxes) CallFile(_ context.Context, id sandbox.ID, call control.FileCall) (control.FilePage, error) {
	if err := f.running(id); err != nil {
		return control.FilePage{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fileCalls = append(f.fileCalls, call)
	var path string
	switch c := call.(type) {
	case control.FileList:
		page := control.FilePage{}
		for i, name := range fakeNames {
			if name <= c.After || strings.Contains(name, "/") && c.Depth < 2 {
				continue
			}
			if page.Entries = append(page.Entries, fakeEntry(name)); len(page.Entries) == c.Limit {
				page.More = i < len(fakeNames)-1
				break
			}
		}
		return page, sandbox.ValidateGuestPath(c.Path)
	case control.FileRemove:
		return control.FilePage{}, sandbox.ValidateGuestPath(c.Path)
	case control.FileStat:
		path = c.Path
	case control.FileMakeDir:
		path = c.Path
	case control.FileMove:
		if err := sandbox.ValidateGuestPath(c.From); err != nil {
			return control.FilePage{}, err
		}
		path = c.To
	}
	if err := sandbox.ValidateGuestPath(path); err != nil {
		return control.FilePage{}, err
	}
	name := path[strings.LastIndexByte(path, '/')+1:]
	if slices.Contains([]string{"missing"}, name) {
		return control.FilePage{}, fault.New(fault.NotFound, "file_not_found", "path '%s' does not exist", path)
	}
	return control.FilePage{Entries: []control.FileEntry{fakeEntry(name)}}, nil
}

// WatchFiles reports fakeChanges, and then the end of the directory.
func (f *fakeSandboxes) WatchFiles(_ context.Context, id sandbox.ID, w control.FileWatch, sink func(control.FileEvent) error) error {
	if err := f.running(id); err != nil {
		return err
	}
	if err := sandbox.ValidateGuestPath(w.Path); err != nil {
		return err
	}
	gone := fault.New(fault.NotFound, "file_not_found", "the watched directory was removed or moved")
	if w.Path == "/missing" {
		return gone
	}
	for _, e := range fakeChanges {
		if err := sink(e); err != nil {
			return err
		}
	}
	return gone
}

var fakeChanges = []control.FileEvent{
	{Type: control.FileWatchReady}, {Type: control.FileCreated, Name: "a/b\xff"}, {Type: control.FileWatchOverflow, Name: "."},
	{Type: control.FileRemoved, Name: "."},
}
