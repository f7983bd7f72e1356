package host

import (
	"context"
	"io"
	"time"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guestclient"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// CallFile does one operation on the names of a guest's file system. It is activity as
// long as it lasts, and a pause cuts one that takes longer than the pause waits.
func (m *Manager) CallFile(ctx context.Context, ref sandbox.Ref, call *guestv1.FileCall) (*guestv1.FileAnswer, error) {
	mc, err := m.find(ref.ID)
	if err != nil {
		return nil, err
	}
	l, err := mc.acquire(ctx, ref, useCommand)
	if err != nil {
		return nil, err
	}
	defer l.release()
	limit := m.cfg.GuestTimeout
	if call.GetRemove() != nil || call.GetMove() != nil {
		limit = treeTimeout
	}
	ctx, cancel := context.WithTimeoutCause(l.ctx, limit, errNoAnswer)
	defer cancel()
	answer, err := l.guest.CallFile(ctx, call)
	return answer, l.err(err)
}

// treeTimeout bounds an operation on a whole tree.
const treeTimeout = 10 * time.Minute

// WriteFile replaces one file in a guest with the bytes of content, or unpacks them,
// and returns their number. An error of content leaves the guest's file as it was.
func (m *Manager) WriteFile(ctx context.Context, ref sandbox.Ref, w guestclient.WriteFile, content io.Reader) (int64, error) {
	mc, err := m.find(ref.ID)
	if err != nil {
		return 0, err
	}
	l, err := mc.acquire(ctx, ref, useTransfer)
	if err != nil {
		return 0, err
	}
	defer l.release()
	n, err := l.guest.WriteFile(l.ctx, w, touching{content, l})
	return n, l.err(err)
}

// touching is content that a transfer moves.
type touching struct {
	io.Reader
	lease *lease
}

// Read implements io.Reader.
func (t touching) Read(p []byte) (int, error) {
	n, err := t.Reader.Read(p)
	if n > 0 {
		t.lease.touch()
	}
	return n, err
}

// File is a guest's file being read. Close must be called, and ends the lease
// on the guest. Read and Close are its own; Body is not used.
type File struct {
	guestclient.File
	lease *lease
}

// ReadFile opens one file of a guest.
func (m *Manager) ReadFile(ctx context.Context, ref sandbox.Ref, r guestclient.ReadFile) (*File, error) {
	mc, err := m.find(ref.ID)
	if err != nil {
		return nil, err
	}
	l, err := mc.acquire(ctx, ref, useTransfer)
	if err != nil {
		return nil, err
	}
	f, err := l.guest.ReadFile(l.ctx, r)
	if err != nil {
		err = l.err(err)
		l.release()
		return nil, err
	}
	return &File{File: f, lease: l}, nil
}

// Read returns the next bytes. Its errors are faults, or io.EOF.
func (f *File) Read(p []byte) (int, error) {
	n, err := f.Body.Read(p)
	if n > 0 {
		f.lease.touch()
	}
	if err != nil && err != io.EOF {
		err = f.lease.err(err)
	}
	return n, err
}

// Close ends the transfer.
func (f *File) Close() error {
	err := f.Body.Close()
	f.lease.release()
	return err
}

// WatchFiles hands the changes in a directory of a guest to send until the watch ends. A
// pause ends it at once with WrongState sandbox_paused; so does the sandbox's end, with
// its reason.
func (m *Manager) WatchFiles(ctx context.Context, ref sandbox.Ref, call *guestv1.WatchFilesCall, send func(*guestv1.WatchFilesEvent) error) error {
	mc, err := m.find(ref.ID)
	if err != nil {
		return err
	}
	l, err := mc.acquire(ctx, ref, useFollow)
	if err != nil {
		return err
	}
	defer l.release()
	stop := l.endWithHost(m.life)
	defer stop()
	return l.err(l.guest.WatchFiles(l.ctx, call, send))
}

// endWithHost ends the lease when the host agent stops.
func (l *lease) endWithHost(life context.Context) (stop func() bool) {
	return context.AfterFunc(life, func() {
		l.cancel(fault.New(fault.HostFailed, "host_stopping", "the host agent is stopping"))
	})
}
