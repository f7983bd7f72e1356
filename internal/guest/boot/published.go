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

// publish makes b the content of the file at path, which root alone can read. It
// overwrites the previous content first, so that a later memory snapshot cannot contain
// it. On error it removes the file. Root of the guest may have put anything there: publish
// follows no link, and waits for nobody.
func publish(path string, b []byte) error {
	err := replaceSettings(path, b)
	if err != nil {
		_ = os.Remove(path)
	}
	return err
}

func replaceSettings(path string, b []byte) error {
	if len(b) > maxMemory {
		return errors.New("too much to publish")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file", path)
	}
	if err := errors.Join(f.Chown(os.Geteuid(), os.Getegid()), f.Chmod(0o600)); err != nil {
		return err
	}
	// A reader that comes meanwhile finds no JSON.
	if _, err := f.WriteAt(make([]byte, min(info.Size(), maxMemory)), 0); err != nil {
		return err
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	return err
}
