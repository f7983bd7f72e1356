package filesystem

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Limits of one page of a listing.
const (
	// MaxPage is the largest number of entries.
	MaxPage = 5000
	// maxPageBytes bounds the names and targets, in bytes. A page always has an entry
	// if there is one.
	maxPageBytes = 512 << 10
	// readBatch is the number of entries that are read of a directory at once.
	readBatch = 512
)

// PageSpec selects a page of a listing.
type PageSpec struct {
	Path string
	// Depth is the number of levels below Path; 0 means 1.
	Depth uint32
	// Limit is the largest number of entries; 0 means MaxPage.
	Limit int
	// After is the name of the last entry of the previous page.
	After string
}

// Page lists a directory in the order of the bytes of the names, a directory before
// its children, and reports whether more entries follow. Path may be a link to a
// directory; links below it are not followed. The memory that it needs is bounded by
// the page and by the depth, not by the directory. The end of ctx ends it.
func (f *Files) Page(ctx context.Context, s PageSpec) (entries []Info, more bool, err error) {
	d, err := f.accounts.Read()
	if err != nil {
		return nil, false, err
	}
	fi, err := os.Stat(s.Path)
	switch {
	case errors.Is(err, syscall.ENOTDIR):
		return nil, false, errMissing(s.Path, err)
	case err != nil:
		return nil, false, classify(s.Path, err)
	case !fi.IsDir():
		return nil, false, errNotDirectory(s.Path, nil)
	}
	limit := s.Limit
	if limit <= 0 || limit > MaxPage {
		limit = MaxPage
	}
	p := pager{ctx: ctx, accounts: d, root: s.Path, limit: limit}
	err = p.walk("", s.After, max(s.Depth, 1))
	if errors.Is(err, errPageFull) {
		return p.entries, true, nil
	}
	return p.entries, false, err
}

// errPageFull ends a walk whose page has no room for the next entry.
var errPageFull = errors.New("the page is full")

// pager fills one page.
type pager struct {
	ctx      context.Context
	accounts *Directory
	root     string
	limit    int
	entries  []Info
	bytes    int
}

// walk adds the entries below dir, which is relative to root, that come after the name
// after, which is relative to dir.
func (p *pager) walk(dir, after string, depth uint32) error {
	head, rest, nested := strings.Cut(after, "/")
	if nested && depth > 1 {
		// The page continues inside of head.
		if err := p.descend(filepath.Join(dir, head), rest, depth); err != nil {
			return err
		}
	} else if after != "" && depth > 1 {
		// head was the last entry: its children come next.
		if err := p.descend(filepath.Join(dir, head), "", depth); err != nil {
			return err
		}
	}
	for {
		names, err := p.next(dir, head)
		if err != nil {
			return err
		}
		for _, e := range names {
			if err := p.add(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
			if depth > 1 && e.IsDir() {
				if err := p.descend(filepath.Join(dir, e.Name()), "", depth); err != nil {
					return err
				}
			}
			head = e.Name()
		}
		if len(names) <= p.limit {
			return nil
		}
	}
}

// descend walks a directory below the root. A directory that has gone, or that is none
// any more, has no entries.
func (p *pager) descend(dir, after string, depth uint32) error {
	if fi, err := os.Lstat(filepath.Join(p.root, dir)); err != nil || !fi.IsDir() {
		return nil
	}
	err := p.walk(dir, after, depth-1)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

// next returns the first entries of a directory after a name, in order: all of them, or
// more than fit on a page.
func (p *pager) next(dir, after string) ([]fs.DirEntry, error) {
	path := filepath.Join(p.root, dir)
	f, err := os.Open(path)
	if err != nil {
		return nil, classify(path, err)
	}
	defer f.Close()
	keep := p.limit + 1
	var names []fs.DirEntry
	for {
		if p.ctx.Err() != nil {
			return nil, context.Cause(p.ctx)
		}
		batch, err := f.ReadDir(readBatch)
		for _, e := range batch {
			if e.Name() > after {
				names = append(names, e)
			}
		}
		ended := errors.Is(err, io.EOF)
		if ended || len(names) > 2*keep {
			slices.SortFunc(names, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
			names = names[:min(len(names), keep)]
		}
		switch {
		case ended:
			return names, nil
		case err != nil:
			return nil, classify(path, err)
		}
	}
}

// add adds the entry called name, unless it has gone.
func (p *pager) add(name string) error {
	path := filepath.Join(p.root, name)
	fi, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	if err != nil {
		return classify(path, err)
	}
	info := p.accounts.info(name, path, fi)
	size := len(info.Name) + len(info.Target)
	if len(p.entries) >= p.limit || len(p.entries) > 0 && p.bytes+size > maxPageBytes {
		return errPageFull
	}
	p.entries, p.bytes = append(p.entries, info), p.bytes+size
	return nil
}
