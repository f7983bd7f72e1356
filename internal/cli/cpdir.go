package cli

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/wrenn-dev/wrenn/client"
	"github.com/wrenn-dev/wrenn/internal/archive"
)

// Directories are copied as archives. The archive of a sandbox is hostile: package
// archive decides which entries are written, and where.

// uploadDir copies the directory at from into a sandbox.
func (a *App) uploadDir(ctx context.Context, from string, to place, user string) (int64, error) {
	abs, err := filepath.Abs(from)
	if err != nil {
		return 0, err
	}
	target, err := a.remoteTarget(ctx, to, filepath.Base(abs))
	if err != nil {
		return 0, err
	}
	if err := a.makeTarget(ctx, to.id, target, from, user); err != nil {
		return 0, err
	}
	root, err := os.OpenRoot(from)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	content, packed := io.Pipe()
	var totals archive.Totals
	var packErr error
	done := make(chan struct{})
	go func() {
		defer close(done)
		totals, packErr = archive.Pack(ctx, root, ".", packed, archive.Packing{LeftOut: func(name string) {
			a.note("left out %s, which is no file, directory or link", printable(filepath.Join(from, name)))
		}})
		_ = packed.CloseWithError(packErr) // nil is the end
	}()
	bar := a.progress(content, unknownSize)
	err = a.Client().WriteArchive(ctx, to.id, target, user, bar)
	_ = content.CloseWithError(io.ErrClosedPipe) // ends Pack if the server has refused
	cancel()
	<-done
	bar.end()
	if packErr != nil && !errors.Is(packErr, io.ErrClosedPipe) && !errors.Is(packErr, context.Canceled) {
		return totals.Bytes, packErr
	}
	return totals.Bytes, err
}

// remoteTarget returns the path in a sandbox to which a directory called name is
// copied: below an existing directory it keeps its name.
func (a *App) remoteTarget(ctx context.Context, to place, name string) (string, error) {
	if strings.HasSuffix(to.path, "/") {
		return path.Join(to.path, name), nil
	}
	e, err := a.Client().StatFile(ctx, to.id, to.path, true)
	if refused := (*client.Error)(nil); errors.As(err, &refused) && refused.Code == "file_not_found" {
		return to.path, nil
	}
	if err != nil {
		return "", err
	}
	if e.Type == client.FileTypeDirectory {
		return path.Join(to.path, name), nil
	}
	return to.path, nil
}

// makeTarget makes the directory target with the permissions of from.
func (a *App) makeTarget(ctx context.Context, id, target, from, user string) error {
	st, err := os.Stat(from)
	if err != nil {
		return err
	}
	_, err = a.Client().MakeDirectory(ctx, id, client.MakeDirectoryRequest{Path: target, Mode: showMode(st.Mode()), User: user})
	return err
}

// maxLeftOut is the largest number of names of left out entries that a copy prints.
const maxLeftOut = 20

// downloadDir copies a directory out of a sandbox.
func (a *App) downloadDir(ctx context.Context, from, to place) (int64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	body, err := a.Client().ReadArchive(ctx, from.id, from.path)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	bar := a.progress(body, unknownSize)
	defer bar.end()
	if to.isStream() {
		return io.Copy(a.io.Out, bar)
	}
	target := localTarget(from, to)
	if err := os.MkdirAll(target, 0o777); err != nil {
		return 0, err
	}
	root, err := os.OpenRoot(target)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	left := 0
	totals, err := archive.Unpack(ctx, root, bar, archive.Unpacking{Umask: umask(), KeepDirs: true, LeftOut: func(name, why string) {
		if left++; left <= maxLeftOut {
			a.note("left out %s: %s", printable(name), why)
		}
	}})
	if left > maxLeftOut {
		a.note("left out %d more entries", left-maxLeftOut)
	}
	return totals.Bytes, archiveFailure(err)
}

// archiveFailure returns the failure of a copy, with the names that the sandbox chose
// made printable.
func archiveFailure(err error) error {
	for _, kind := range []error{archive.ErrInvalid, archive.ErrIncomplete, archive.ErrTooLarge} {
		if errors.Is(err, kind) {
			return &Failure{Message: "the sandbox sent " + printable(err.Error())}
		}
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, http.ErrBodyReadAfterClose) {
		return &Failure{Message: "the copy broke off: it is incomplete"}
	}
	return err
}

// showMode shows permission bits in octal.
func showMode(mode fs.FileMode) string { return "0" + octal(uint32(mode.Perm())) }
