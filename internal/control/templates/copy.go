package templates

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"path"
	"strings"
	"time"

	"github.com/wrenn-dev/wrenn/internal/build/plan"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// placing says where the files of a COPY go, and how they change.
type placing struct {
	// dir is the directory in the guest; rename is the name of the only file there, or
	// empty.
	dir, rename string
	// uid and gid own the files, unless keep.
	uid, gid int
	keep     bool
	mode     *uint32
	unpack   bool
}

// copyFiles carries out COPY.
func (b *builder) copyFiles(ctx context.Context, m *machine, step plan.Step, st state) error {
	c := step.Copy
	src, err := b.source(ctx, c)
	if err != nil {
		return err
	}
	return b.writeFiles(ctx, m, c, st, src)
}

// writeFiles writes the files of c, which come from src.
func (b *builder) writeFiles(ctx context.Context, m *machine, c *plan.Copy, st state, src files) error {
	p, err := b.place(ctx, m, c, st, src)
	if err != nil {
		return err
	}
	read, write := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := fault.Caught(func() error {
			out := &placer{placing: p, out: tar.NewWriter(write), names: map[string]string{}}
			if err := src.write(ctx, out); err != nil {
				return err
			}
			return out.out.Close()
		})
		_ = write.CloseWithError(err)
		done <- err
	}()
	_, err = b.Machines.WriteFile(ctx, m.id, control.WriteFile{Path: p.dir, User: "root", Archive: true, Preserve: true}, read)
	_ = read.CloseWithError(errStopped)
	if srcErr := <-done; srcErr != nil && !errors.Is(srcErr, errStopped) && !errors.Is(srcErr, io.ErrClosedPipe) {
		return srcErr
	}
	return err
}

// errStopped ends the source of a COPY whose destination has failed.
var errStopped = errors.New("the destination takes no more files")

// files are the files of a COPY.
type files struct {
	// single says that there is one file, which is no directory.
	single bool
	// foreign says that the files have owners of their own.
	foreign bool
	write   func(ctx context.Context, out *placer) error
}

// source returns the files of c.
func (b *builder) source(ctx context.Context, c *plan.Copy) (files, error) {
	var out files
	var err error
	switch {
	case len(c.Sources) == 0:
	case c.Context != "":
		out, err = b.contextFiles(ctx, c)
	case c.Stage > 0:
		var m *machine
		if m, err = b.stages[c.Stage-1].machine(ctx); err == nil {
			out, err = b.machineFiles(ctx, m, c)
		}
	case c.Base != nil:
		var m *machine
		if m, err = b.baseMachine(ctx, *c.Base); err == nil {
			out, err = b.machineFiles(ctx, m, c)
		}
	}
	if err != nil || len(c.Content) == 0 {
		return out, err
	}
	rest := out.write
	out.single = len(c.Content) == 1 && rest == nil
	out.write = func(ctx context.Context, to *placer) error {
		if rest != nil {
			if err := rest(ctx, to); err != nil {
				return err
			}
		}
		return inlineFiles(c.Content, to)
	}
	return out, nil
}

// inlineFiles writes files of the text.
func inlineFiles(content []plan.Inline, to *placer) error {
	for _, f := range content {
		name, ok := cleanName(f.Name)
		if !ok || name == "." {
			return errArchive("%.128q cannot be the name of a file", f.Name)
		}
		h := &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(f.Data)), ModTime: time.Unix(0, 0)}
		if err := to.put(h, path.Base(name), strings.NewReader(f.Data)); err != nil {
			return err
		}
	}
	return nil
}

// contextFiles returns the files of an upload. Writing them fails if the upload is not the one
// that the keys of the build are about: it can be replaced while the build runs.
func (b *builder) contextFiles(ctx context.Context, c *plan.Copy) (files, error) {
	idx, err := b.index(ctx, c.Context)
	if err != nil {
		return files{}, err
	}
	s, err := idx.selection(ctx, c)
	if err != nil {
		return files{}, err
	}
	return files{single: s.single(), write: func(ctx context.Context, out *placer) error {
		sum, err := b.readContext(ctx, c.Context, func(h *tar.Header, content io.Reader) error {
			names, err := s.targets(ctx, h.Name)
			if err != nil {
				return err
			}
			return out.putAt(h, content, names)
		})
		if err == nil && sum != idx.upload {
			err = errArchive("they were replaced during the build; build again")
		}
		return err
	}}, nil
}

// maxTwice is the largest file that several sources of one COPY may take, in bytes.
const maxTwice = 64 << 20

// putAt writes an entry under each of the names.
func (p *placer) putAt(h *tar.Header, content io.Reader, names []string) error {
	if len(names) < 2 {
		for _, name := range names {
			return p.put(h, name, content)
		}
		return nil
	}
	if h.Size > maxTwice {
		return errArchive("%.128q is taken by several sources and larger than %d bytes; copy it once", h.Name, maxTwice)
	}
	data, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	for _, name := range names {
		again := *h
		if err := p.put(&again, name, bytes.NewReader(data)); err != nil {
			return err
		}
	}
	return nil
}

// baseMachine returns a machine of a base from which files are copied.
func (b *builder) baseMachine(ctx context.Context, from plan.Base) (*machine, error) {
	base, err := b.baseOf(ctx, from)
	if err != nil {
		return nil, err
	}
	return b.create(ctx, control.NewMachine{Image: base.image, Snapshot: base.snapshot, HostID: base.hostID})
}

// machineFiles returns files of another machine.
func (b *builder) machineFiles(ctx context.Context, m *machine, c *plan.Copy) (files, error) {
	sel := newSelection(c)
	pages := maxListings
	for _, source := range c.Sources {
		found, err := b.matchInMachine(ctx, m, sel.matcher, path.Clean("/"+source), &pages)
		if err != nil {
			return files{}, err
		}
		if len(found) == 0 {
			return files{}, fault.New(fault.NotFound, "source_not_found", "no file matches %.256q", source)
		}
		if err := sel.add(found...); err != nil {
			return files{}, err
		}
	}
	return files{single: sel.single(), foreign: true, write: func(ctx context.Context, out *placer) error {
		for _, r := range sel.roots {
			if err := b.download(ctx, m, r, sel, out); err != nil {
				return err
			}
		}
		return nil
	}}, nil
}

// download copies one source of another machine to out.
func (b *builder) download(ctx context.Context, m *machine, r root, s *selection, out *placer) error {
	f, err := b.Machines.ReadFile(ctx, m.id, control.ReadFile{Path: "/" + strings.TrimPrefix(r.name, "."), User: "root", Archive: true})
	if err != nil {
		return err
	}
	defer f.Body.Close()
	clear(out.names) // hard links are those of one archive
	return walkTar(ctx, f.Body, func(h *tar.Header, content io.Reader) error {
		// The names are relative to a directory; a file has its own.
		full := path.Join(r.name, h.Name)
		if !r.dir {
			full = r.name
		}
		if h.Typeflag == tar.TypeLink {
			h.Linkname = path.Join(r.name, h.Linkname)
		}
		h.Name = full
		name, ok, err := s.target(ctx, r, full)
		if !ok || err != nil {
			return err
		}
		return out.put(h, name, content)
	})
}

// maxListings is the most pages of directories that one COPY from a machine reads.
const maxListings = 1000

// matchInMachine returns the files of a machine that an absolute path names, which may be a
// pattern. It takes the pages that it reads from pages. The machine is not trusted: it can
// answer without end.
func (b *builder) matchInMachine(ctx context.Context, m *machine, matches *matcher, source string, pages *int) ([]root, error) {
	name := strings.TrimPrefix(source, "/")
	if name == "" {
		return []root{{".", true}}, nil
	}
	wild := strings.IndexAny(name, "*?[")
	if wild < 0 {
		e, err := b.stat(ctx, m, source)
		if err != nil {
			return nil, err
		}
		return []root{{name, e.Type == control.FileDirectory}}, nil
	}
	dir := path.Dir(name[:wild] + "x")
	rest := strings.TrimPrefix(name, strings.TrimPrefix(dir+"/", "./"))
	depth := strings.Count(rest, "/") + 1
	if depth > maxParts || len(name) > maxPattern {
		return nil, fault.New(fault.Invalid, "invalid_plan", "the pattern %.128q is too long, or has more than %d parts", source, maxParts)
	}
	var out []root
	pattern := pathPatternOf(rest)
	list := control.FileList{Path: path.Join("/", dir), Depth: depth}
	for ; ; *pages-- {
		if *pages == 0 || len(out) > maxRoots {
			return nil, tooMany("the patterns of a COPY match more than %d files, or have to be compared with too many", maxRoots)
		}
		page, err := b.Machines.CallFile(ctx, m.id, list)
		if err != nil {
			return nil, err
		}
		for _, e := range page.Entries {
			ok, err := matches.match(ctx, pattern, e.Name)
			if err != nil {
				return nil, err
			}
			if ok {
				out = append(out, root{path.Join(dir, e.Name), e.Type == control.FileDirectory})
			}
		}
		if !page.More || len(page.Entries) == 0 {
			return out, nil
		}
		list.After = page.Entries[len(page.Entries)-1].Name
	}
}

// place decides where the files of c go, and who owns them.
func (b *builder) place(ctx context.Context, m *machine, c *plan.Copy, st state, src files) (placing, error) {
	p := placing{mode: c.Mode, unpack: c.Unpack, keep: src.foreign && c.Owner == "" && !c.CurrentUser}
	home := "/"
	if c.Owner != "" || c.CurrentUser || (st.workdir == "" && !b.plan.ImageSettings) {
		a, err := b.account(ctx, m, st.user)
		if err != nil {
			return p, err
		}
		home = a.home
		if c.CurrentUser {
			p.uid, p.gid = a.uid, a.gid
		}
		if c.Owner != "" {
			all, err := b.readAccounts(ctx, m)
			if err != nil {
				return p, err
			}
			if p.uid, p.gid, err = all.owner(c.Owner); err != nil {
				return p, err
			}
		}
	}
	dest := c.Dest
	if !path.IsAbs(dest) {
		dir := st.workdir
		if dir == "" && !b.plan.ImageSettings {
			dir = home
		}
		dest = path.Join("/", dir) + "/" + dest
	}
	inside := strings.HasSuffix(dest, "/") || path.Base(dest) == "." || !src.single
	dest = path.Clean(dest)
	if !inside {
		e, err := b.stat(ctx, m, dest)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return p, err
		}
		inside = err == nil && e.Type == control.FileDirectory
	}
	p.dir = dest
	if !inside {
		p.dir, p.rename = path.Dir(dest), path.Base(dest)
	}
	return p, nil
}

// placer writes the files of a COPY as an archive for their destination.
type placer struct {
	placing
	out   *tar.Writer
	names map[string]string // the names of files in the source and in the destination
}

// put writes an entry under name.
func (p *placer) put(h *tar.Header, name string, content io.Reader) error {
	if p.unpack && h.Typeflag == tar.TypeReg {
		unpacked, rest, err := p.tryUnpack(content)
		if err != nil || unpacked {
			return err
		}
		content = rest
	}
	if name == "." {
		return nil // the destination itself
	}
	if p.rename != "" {
		name = p.rename
	}
	out := &tar.Header{
		Name: name, Typeflag: h.Typeflag, Mode: h.Mode & 0o7777, Uid: p.uid, Gid: p.gid, ModTime: h.ModTime,
		Size: h.Size, Linkname: h.Linkname, Format: tar.FormatPAX,
	}
	if p.keep {
		out.Uid, out.Gid = h.Uid, h.Gid
	}
	if p.mode != nil && h.Typeflag != tar.TypeSymlink {
		out.Mode = int64(*p.mode)
	}
	switch h.Typeflag {
	case tar.TypeDir:
		out.Name, out.Size, out.Linkname = name+"/", 0, ""
	case tar.TypeSymlink:
		out.Size = 0
	case tar.TypeLink:
		first, known := p.names[h.Linkname]
		if !known {
			return errArchive("%.128q is a hard link to %.128q, which is not copied", h.Name, h.Linkname)
		}
		out.Linkname, out.Size = first, 0
	default:
		p.names[h.Name] = name
		out.Linkname = ""
	}
	if err := p.out.WriteHeader(out); err != nil {
		return streamOut(err, h.Name)
	}
	if out.Size == 0 {
		return nil
	}
	_, err := io.Copy(p.out, content)
	return err
}

// streamOut returns the error of a header: it is the author's unless the stream broke.
func streamOut(err error, name string) error {
	if errors.Is(err, errStopped) || errors.Is(err, io.ErrClosedPipe) {
		return err
	}
	return errArchive("%.128q cannot be copied: %s", name, err)
}

// tryUnpack writes the entries of content if that is an archive. Otherwise it returns
// the content again.
func (p *placer) tryUnpack(content io.Reader) (bool, io.Reader, error) {
	const probe = 64 << 10
	head := make([]byte, probe)
	n, err := io.ReadFull(content, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false, nil, err
	}
	head = head[:n]
	all := io.MultiReader(bytes.NewReader(head), content)
	if !isArchive(head) {
		return false, all, nil
	}
	r, done, err := decompress(all)
	if err != nil {
		return false, nil, err
	}
	defer done()
	inner := &placer{placing: placing{uid: p.uid, gid: p.gid, mode: p.mode, keep: true}, out: p.out, names: map[string]string{}}
	err = walkTar(context.Background(), r, func(h *tar.Header, content io.Reader) error { return inner.put(h, h.Name, content) })
	return true, nil, err
}

// isArchive reports whether a file that begins with head is a tar, perhaps compressed.
func isArchive(head []byte) bool {
	r, done, err := decompress(bytes.NewReader(head))
	if err != nil {
		return bytes.HasPrefix(head, []byte{0xfd, '7', 'z'})
	}
	defer done()
	block := make([]byte, 512)
	if _, err := io.ReadFull(r, block); err != nil {
		return false
	}
	_, err = tar.NewReader(io.MultiReader(bytes.NewReader(block), neverEnds{})).Next()
	return err == nil && bytes.Equal(block[257:262], []byte("ustar"))
}

// neverEnds is a stream of zeros.
type neverEnds struct{}

// Read implements io.Reader.
func (neverEnds) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// writeLink makes a symbolic link.
func (b *builder) writeLink(ctx context.Context, m *machine, name, target string) error {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Name: path.Base(name), Typeflag: tar.TypeSymlink, Linkname: target, Mode: 0o777}); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	_, err := b.Machines.WriteFile(ctx, m.id, control.WriteFile{Path: path.Dir(name), User: "root", Archive: true}, &buf)
	return err
}
