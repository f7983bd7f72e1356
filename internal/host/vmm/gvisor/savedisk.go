package gvisor

import (
	"context"
	"errors"
	"fmt"
	"os"

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
func (v *vm) SaveDisk(ctx context.Context, path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = call(ctx, v.dir, methodSaveDisk, saveDiskOptions{ContainerID: containerID}, nil, f)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("save the disk: %w", err)
	}
	return nil
}
