package cli

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/wrenn-dev/wrenn/client"
)

// Directories are copied as a tar stream, which the sandbox's own tar(1) writes and
// reads. The stream of a sandbox is hostile: unpacking decides which entries are
// written, and where.

// copyTimeout bounds the copy of a directory.
const copyTimeout = 24 * time.Hour

// receiveScript unpacks the stream on stdin into a directory. $1 is the target, $2
// the name in it if the target is an existing directory.
const receiveScript = `d=$1; case $d in */) d=$d$2;; *) if [ -d "$d" ]; then d=$d/$2; fi;; esac; mkdir -p -- "$d" && exec tar -xpf - -C "$d"`

// uploadDir copies the directory at from into a sandbox.
func (a *App) uploadDir(ctx context.Context, from string, to place, user string) (int64, error) {
	abs, err := filepath.Abs(from)
	if err != nil {
		return 0, err
	}
	content, packed := io.Pipe()
	var sent int64
	var packErr error
	done := make(chan struct{})
	go func() {
		defer close(done)
		sent, packErr = a.pack(from, packed)
		_ = packed.CloseWithError(packErr) // nil is the end
	}()
	err = a.inSandbox(ctx, to.id, client.ExecRequest{
		Cmd: "sh", Args: []string{"-c", receiveScript, "sh", to.path, filepath.Base(abs)}, User: user, Input: content, Timeout: copyTimeout,
	}, io.Discard)
	_ = content.Close() // ends pack if the command has ended early
	<-done
	if packErr != nil && !errors.Is(packErr, io.ErrClosedPipe) {
		return sent, packErr
	}
	return sent, err
}

// pack writes the directory at dir to w and returns the bytes of its files.
func (a *App) pack(dir string, w io.Writer) (int64, error) {
	out := tar.NewWriter(w)
	var sum int64
	err := filepath.WalkDir(dir, func(at string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, at)
		if err != nil {
			return err
		}
		n, err := a.packEntry(out, at, filepath.ToSlash(name), entry)
		sum += n
		return err
	})
	if err != nil {
		return sum, err
	}
	return sum, out.Close()
}

func (a *App) packEntry(out *tar.Writer, at, name string, entry fs.DirEntry) (int64, error) {
	st, err := entry.Info()
	if err != nil {
		return 0, err
	}
	link := ""
	switch {
	case st.Mode()&fs.ModeSymlink != 0:
		if link, err = os.Readlink(at); err != nil {
			return 0, err
		}
	case !st.IsDir() && !st.Mode().IsRegular():
		a.note("left out %s, which is no file, directory or link", at)
		return 0, nil
	}
	h, err := tar.FileInfoHeader(st, link)
	if err != nil {
		return 0, err
	}
	h.Name, h.Format = name, tar.FormatPAX
	// The files belong to the user that unpacks them.
	h.Uid, h.Gid, h.Uname, h.Gname = 0, 0, "", ""
	if err := out.WriteHeader(h); err != nil || !st.Mode().IsRegular() {
		return 0, err
	}
	f, err := os.Open(at)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return io.Copy(out, f)
}

// downloadDir copies a directory out of a sandbox.
func (a *App) downloadDir(ctx context.Context, from, to place, user string) (int64, error) {
	req := client.ExecRequest{Cmd: "tar", Args: []string{"-cf", "-", "-C", from.path, "."}, User: user, Timeout: copyTimeout}
	if to.isStream() {
		out := &counter{w: a.io.Out}
		err := a.inSandbox(ctx, from.id, req, out)
		return out.n, err
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
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	content, packed := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := a.inSandbox(ctx, from.id, req, packed)
		_ = packed.CloseWithError(err)
		done <- err
	}()
	u := &unpacking{root: root, note: a.note}
	err = u.all(content)
	_ = content.CloseWithError(io.ErrClosedPipe) // ends a command that still writes
	if err != nil {
		cancel()
	}
	return u.bytes, errors.Join(err, sentError(<-done, err))
}

// sentError returns the error of sending, unless it follows from one of reading.
func sentError(sent, read error) error {
	if read != nil {
		return nil
	}
	return sent
}

// maxErrorOutput is the number of bytes kept of a command's stderr.
const maxErrorOutput = 4096

// inSandbox runs a command for a copy. An exit code other than 0 is a failure with
// the command's stderr.
func (a *App) inSandbox(ctx context.Context, id string, req client.ExecRequest, out io.Writer) error {
	var stderr bytes.Buffer
	res, err := a.Client().ExecStream(ctx, id, req, out, &limited{w: &stderr, left: maxErrorOutput})
	var refused *client.Error
	if errors.As(err, &refused) && refused.Code == "command_not_found" {
		return &Failure{Message: "the sandbox has no " + req.Cmd + ", which the copy of a directory needs",
			Code: refused.Code, RequestID: refused.RequestID}
	}
	if err != nil {
		return err
	}
	if res.ExitCode != 0 {
		return &Failure{Message: "in the sandbox: " + printable(strings.TrimSpace(stderr.String()))}
	}
	return nil
}

// limited writes at most left bytes to w and drops the rest.
type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	keep := p[:min(len(p), l.left)]
	l.left -= len(keep)
	if _, err := l.w.Write(keep); err != nil {
		return 0, err
	}
	return len(p), nil
}
