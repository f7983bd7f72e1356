package emulator

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/linux/filesum"
)

// copy makes a build of parts under a temporary name and renames it. The lock
// must be held.
func (s *Store) copy(ctx context.Context, parts []part, version string) (Build, error) {
	tmp, err := s.dir.New()
	if err != nil {
		return Build{}, err
	}
	defer os.RemoveAll(tmp) // holds a damaged build, or nothing, once it is published
	b := Build{Version: version, DataDir: dataDir}
	for _, p := range parts {
		if err := ctx.Err(); err != nil {
			return Build{}, err
		}
		sum, err := copyFile(filepath.Join(tmp, p.to), p.source.Path)
		if err != nil {
			return Build{}, fmt.Errorf("keep %s: %w", p.source.Path, err)
		}
		// A package that was upgraded meanwhile would give half a build.
		if now, err := sourceOf(p.source.Path); err != nil || now != p.source {
			return Build{}, errors.Join(fmt.Errorf("%s changed while it was copied; is an upgrade under way?", p.source.Path), err)
		}
		b.enter(File{Path: p.to, SHA256: sum, Bytes: p.source.Bytes, Source: p.source})
	}
	b.sum()
	b.Dir = s.dir.Path(b.ID)
	return b, s.dir.Publish(tmp, b.ID, b)
}

// enter adds f to the files of b.
func (b *Build) enter(f File) {
	b.Files = append(b.Files, f)
	switch dir := filepath.Dir(f.Path); {
	case f.Path == loaderFile:
		b.Loader, b.LibDir = f.Path, libDir
	case dir == binDir:
		b.Binary, b.Digest = f.Path, f.SHA256[:digestLength]
	case dir == moduleDir:
		b.ModuleDir = moduleDir
	}
}

// digestLength is how many hexadecimal digits of a SHA-256 are a digest.
const digestLength = 32

// sum computes the digests over several files.
func (b *Build) sum() {
	slices.SortFunc(b.Files, func(x, y File) int { return strings.Compare(x.Path, y.Path) })
	all, roms := sha256.New(), sha256.New()
	for _, f := range b.Files {
		fmt.Fprintf(all, "%s %s\n", f.SHA256, f.Path)
		if filepath.Dir(f.Path) == dataDir {
			fmt.Fprintf(roms, "%s %s\n", f.SHA256, f.Path)
		}
	}
	b.ID = hex.EncodeToString(all.Sum(nil))[:digestLength]
	b.Firmware = hex.EncodeToString(roms.Sum(nil))[:digestLength]
}

// copyFile copies the file from to to, executable by everybody, and returns
// its SHA-256.
func copyFile(to, from string) (sum string, err error) {
	dir := filepath.Dir(to)
	// Chmod, because VM processes must get in with any umask.
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.Chmod(dir, 0o755)); err != nil {
		return "", err
	}
	in, err := os.Open(from)
	if err != nil {
		return "", err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o555)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(out, h), in)
	return hex.EncodeToString(h.Sum(nil)), errors.Join(err, out.Chmod(0o555), out.Close())
}

// BinaryDigest returns the Digest that a build of the binary at path has.
func BinaryDigest(path string) (string, error) {
	sum, _, err := filesum.SHA256(path)
	if err != nil {
		return "", err
	}
	return sum[:digestLength], nil
}
