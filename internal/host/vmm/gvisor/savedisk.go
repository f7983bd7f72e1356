package gvisor

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

var _ vmm.DiskSaver = (*vm)(nil)

// saveDiskOptions are those of the sentry (control.TarRootfsUpperLayerOpts in
// pkg/sentry/control/fs.go) beside the file. It looks up the container by its name.
type saveDiskOptions struct {
	ContainerID string
}

// bootCopies is how many times the content of a disk may be in the sentry's memory while
// it boots from it: in buffers that grow by doubling, before they are collected, and in the
// disk itself. In a sandbox with a limit of 3,456 MiB a file of 900 MiB was booted from, and
// one of 1,500 MiB was not.
const bootCopies = 4

// BootableBytes implements vmm.DiskSaver.
func (v *vm) BootableBytes() int64 {
	return int64(v.about.Seal.MemoryMB+v.about.Seal.DiskMB+overheadMB+graceMB) << 20 / bootCopies
}

// SaveDisk implements vmm.DiskSaver. The file is an archive of the files that differ from
// the root image (writeToTar in pkg/sentry/fsimpl/tmpfs/tar.go). It has no sockets, as
// archives of tar(1) have none. The sentry holds one file at a time in its own memory, and
// all files when it boots from the archive.
//
// The sentry writes the holes of sparse files too, so that a guest can have it write any
// number of bytes. It therefore writes to a pipe, from which copyDisk reads.
func (v *vm) SaveDisk(ctx context.Context, path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err = errors.Join(v.saveDiskTo(ctx, f), f.Close()); err != nil {
		return fmt.Errorf("save the disk: %w", err)
	}
	return nil
}

// pipeGrace is how long the pipe is read after the call has ended. A sentry that fails may
// have written the size that tells why.
const pipeGrace = time.Second

func (v *vm) saveDiskTo(ctx context.Context, dst io.Writer) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	context.AfterFunc(ctx, func() { _ = r.SetReadDeadline(time.Now().Add(pipeGrace)) })
	copied := make(chan error, 1)
	go func() {
		err := fault.Caught(func() error { return copyDisk(dst, r, v.BootableBytes()) })
		if err != nil {
			cancel(err) // ends the call too
		}
		copied <- err
	}()
	err = call(ctx, v.dir, methodSaveDisk, saveDiskOptions{ContainerID: containerID}, nil, w)
	err = errors.Join(err, w.Close())
	if copyErr := <-copied; copyErr != nil {
		return errors.Join(copyErr, err)
	}
	return err
}

// copyDisk copies an archive of files from a sentry, which a guest may have taken over, to
// dst. It ends with vmm.ErrDiskTooLarge as soon as the archive, or the sum of the sizes in
// it, has more than limit bytes, and writes no more than limit bytes.
func copyDisk(dst io.Writer, src io.Reader, limit int64) error {
	bounded := &boundedReader{src: src, left: limit}
	copied := io.TeeReader(bounded, dst)
	archive := tar.NewReader(copied)
	for left := limit; ; {
		header, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("read the archive of the sentry: %w", err)
		}
		if header.Size > left {
			return vmm.ErrDiskTooLarge
		}
		left -= header.Size
	}
	_, err := io.Copy(io.Discard, copied) // nothing, from a sentry as it should be
	return err
}

// boundedReader reads from src and fails with vmm.ErrDiskTooLarge where src has more than
// left bytes.
type boundedReader struct {
	src  io.Reader
	left int64
}

func (r *boundedReader) Read(p []byte) (int, error) {
	if r.left == 0 {
		p = p[:min(1, len(p))]
		if n, err := r.src.Read(p); n == 0 {
			return 0, err
		}
		return 0, vmm.ErrDiskTooLarge
	}
	n, err := r.src.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	return n, err
}
