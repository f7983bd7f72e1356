package cli

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// ignoreName is the file with the patterns of names that are left out of a context.
const ignoreName = ".dockerignore"

// buildContext is the context of a build as an archive in a temporary file, which has no
// name any more.
type buildContext struct {
	file   *os.File
	digest string
	size   int64 // of the archive, in bytes
	files  int
}

// close removes the archive.
func (c *buildContext) close() { _ = c.file.Close() }

// ignorePatterns reads the patterns for a Dockerfile in a context: those of
// DOCKERFILE.dockerignore, else of .dockerignore in the context.
func ignorePatterns(dir, dockerfile string) (*patternmatcher.PatternMatcher, error) {
	var patterns []string
	for _, name := range []string{dockerfile + ignoreName, filepath.Join(dir, ignoreName)} {
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		patterns, err = ignorefile.ReadAll(f)
		_ = f.Close()
		if err != nil {
			return nil, &Failure{Message: fmt.Sprintf("%s cannot be read: %v", name, err)}
		}
		break
	}
	pm, err := patternmatcher.New(patterns)
	if err != nil {
		return nil, &Failure{Message: fmt.Sprintf("a pattern of %s is wrong: %v", ignoreName, err)}
	}
	return pm, nil
}

// packContext packs the files of dir that ignore leaves. The same files give the same
// archive, so that it is uploaded once: entries are in the order of their names and belong
// to root, and times are whole seconds. progress is told of the bytes of files so far.
func packContext(ctx context.Context, dir string, ignore *patternmatcher.PatternMatcher, leftOut func(name string), progress func(n int64)) (_ *buildContext, err error) {
	f, err := os.CreateTemp("", "wrenn-context-")
	if err != nil {
		return nil, err
	}
	_ = os.Remove(f.Name())
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	sum := sha256.New()
	buffer := bufio.NewWriterSize(io.MultiWriter(f, sum), 1<<20)
	z, err := zstd.NewWriter(buffer, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	p := contextPacker{ctx: ctx, dir: dir, ignore: ignore, out: tar.NewWriter(z), leftOut: leftOut, progress: progress}
	if err := p.walk(".", patternmatcher.MatchInfo{}); err != nil {
		return nil, err
	}
	for _, finish := range []func() error{p.out.Close, z.Close, buffer.Flush} {
		if err := finish(); err != nil {
			return nil, err
		}
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	return &buildContext{file: f, digest: hexSum(sum), size: size, files: p.files}, nil
}

func hexSum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// contextPacker is one packContext.
type contextPacker struct {
	ctx      context.Context
	dir      string
	ignore   *patternmatcher.PatternMatcher
	out      *tar.Writer
	leftOut  func(name string)
	progress func(n int64)
	files    int
	bytes    int64
}

// walk packs the entries of the directory name. parent is the result of the patterns for
// it.
func (p *contextPacker) walk(name string, parent patternmatcher.MatchInfo) error {
	entries, err := os.ReadDir(filepath.Join(p.dir, name)) // sorted
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := p.entry(filepath.Join(name, e.Name()), parent); err != nil {
			return err
		}
	}
	return nil
}

// entry packs one file or directory. A directory that is left out is still searched if an
// exception could be in it.
func (p *contextPacker) entry(name string, parent patternmatcher.MatchInfo) error {
	if p.ctx.Err() != nil {
		return context.Cause(p.ctx)
	}
	matched, info, err := p.ignore.MatchesUsingParentResults(name, parent)
	if err != nil {
		return &Failure{Message: fmt.Sprintf("a pattern of %s is wrong: %v", ignoreName, err)}
	}
	full := filepath.Join(p.dir, name)
	fi, err := os.Lstat(full)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // removed since the directory was read
	}
	if err != nil {
		return err
	}
	if matched && !fi.IsDir() {
		return nil
	}
	h := &tar.Header{Name: filepath.ToSlash(name), Mode: int64(unixMode(fi.Mode())), ModTime: fi.ModTime().Truncate(time.Second), Format: tar.FormatPAX}
	switch mode := fi.Mode(); {
	case mode.IsDir():
		if !matched {
			h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
			err = p.out.WriteHeader(h)
		}
		if err != nil || matched && !p.mayHoldException(name) {
			return err
		}
		return p.walk(name, info)
	case mode&fs.ModeSymlink != 0:
		h.Typeflag = tar.TypeSymlink
		if h.Linkname, err = os.Readlink(full); err != nil {
			return err
		}
		p.files++
		return p.out.WriteHeader(h)
	case mode.IsRegular():
		return p.file(full, h)
	}
	p.leftOut(name)
	return nil
}

// unixMode returns permission bits with set-id and sticky bits.
func unixMode(mode fs.FileMode) uint32 {
	bits := uint32(mode.Perm())
	for bit, value := range map[fs.FileMode]uint32{fs.ModeSetuid: syscall.S_ISUID, fs.ModeSetgid: syscall.S_ISGID, fs.ModeSticky: syscall.S_ISVTX} {
		if mode&bit != 0 {
			bits |= value
		}
	}
	return bits
}

// mayHoldException reports whether a "!" pattern could match below the directory name.
func (p *contextPacker) mayHoldException(name string) bool {
	if !p.ignore.Exclusions() {
		return false
	}
	for _, pattern := range p.ignore.Patterns() {
		if !pattern.Exclusion() {
			continue
		}
		text := strings.TrimPrefix(pattern.String(), "!")
		// The part before the first wildcard decides: beyond it anything may match.
		if wild := strings.IndexAny(text, "*?[\\"); wild >= 0 {
			text = text[:wild]
			if strings.HasPrefix(text, name+"/") || strings.HasPrefix(name+"/", text) {
				return true
			}
			continue
		}
		if strings.HasPrefix(text+"/", name+"/") {
			return true
		}
	}
	return false
}

// file packs a regular file. One that becomes shorter meanwhile is an error.
func (p *contextPacker) file(full string, h *tar.Header) error {
	f, err := os.OpenFile(full, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() {
		return &Failure{Message: full + " was replaced while it was read", Hint: "try again"}
	}
	h.Typeflag, h.Size = tar.TypeReg, fi.Size()
	if err := p.out.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.Copy(p.out, io.LimitReader(readerUntil{p.ctx, f}, h.Size))
	if err != nil {
		return err
	}
	if n < h.Size {
		return &Failure{Message: full + " became shorter while it was read", Hint: "try again"}
	}
	p.files++
	p.bytes += n
	p.progress(p.bytes)
	return nil
}

// readerUntil reads r until ctx ends.
type readerUntil struct {
	ctx context.Context
	r   io.Reader
}

func (r readerUntil) Read(b []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(b)
}
