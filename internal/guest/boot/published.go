package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// settingsPath is the file in RAM with the published settings. The server of the code
// interpreter reads it.
const settingsPath = "/run/wrenn/settings"

// Published is a file in RAM that root of the guest can read. Init makes it before any user
// process runs, and every agent inherits it. Nothing is looked up by its name afterwards: a link,
// a mount or another file that root puts at the path can neither lead a write elsewhere nor make
// it wait, and hides the settings from their readers only.
type Published struct{ file *os.File }

// NewPublished makes an empty Published at path, where no file may be.
func NewPublished(path string) (*Published, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make the file of settings: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make the file of settings: %w", err)
	}
	return OpenPublished(f), nil
}

// OpenPublished returns the Published in file, as inherited.
func OpenPublished(file *os.File) *Published { return &Published{file: file} }

// Replace makes b the content. It overwrites the previous content first, so that a later memory
// snapshot cannot contain it, also on error: then the file is empty, as far as root of the
// guest lets it be.
func (p *Published) Replace(b []byte) error {
	err := p.wipe()
	if err == nil {
		err = p.write(b)
	}
	// Readers that watch the file learn of the change by this, because it is never closed.
	return errors.Join(err, p.file.Chmod(0o600))
}

// wipe overwrites the content with zeros, in which a reader that comes meanwhile finds no JSON,
// and makes the file empty and root's alone.
func (p *Published) wipe() error {
	info, err := p.file.Stat()
	if err != nil {
		return err
	}
	_, err = p.file.WriteAt(make([]byte, min(info.Size(), maxMemory)), 0)
	return errors.Join(err, p.file.Truncate(0), p.file.Chown(os.Geteuid(), os.Getegid()), p.file.Chmod(0o600))
}

// write adds b to the empty file, or nothing.
func (p *Published) write(b []byte) error {
	if len(b) > maxMemory {
		return errors.New("too much to publish")
	}
	if _, err := p.file.WriteAt(b, 0); err != nil {
		return errors.Join(err, p.wipe()) // the file system is full
	}
	return nil
}
