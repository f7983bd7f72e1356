// Package durable replaces files atomically and makes files and names survive a
// crash of the host.
//
// It owns nothing. A rename is atomic for every process that looks, also for one
// that starts after its writer was killed, because the page cache outlives a
// process. It is not on the disk before the file and its directory are synced
// (fsync(2)). Replace gives the first guarantee, WriteFile both.
//
// A write error of an earlier fsync is reported only once (fsync(2)): a caller
// that gets an error must treat the content as lost and write it again.
package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Replace gives the file at path new content and mode. Readers find the old or
// the new content, never a part, also after the writer was killed, but not after
// a crash of the host. The new content is first written to path with the suffix
// ".tmp"; two writers of one path must exclude each other.
func Replace(path string, content []byte, mode fs.FileMode) error {
	return replace(path, content, mode, false)
}

// WriteFile is Replace, and the new content and its name are on the disk when it
// returns nil.
func WriteFile(path string, content []byte, mode fs.FileMode) error {
	if err := replace(path, content, mode, true); err != nil {
		return err
	}
	return Sync(filepath.Dir(path))
}

func replace(path string, content []byte, mode fs.FileMode, sync bool) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC|unix.O_NOFOLLOW, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Chmod(mode) // an old temporary file keeps its mode, and the umask narrows a new one's
	}
	if err == nil && sync {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return errors.Join(err, removeIfThere(tmp))
	}
	return nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Sync writes the file at path to the disk. If path is a directory, it writes
// the names in it, not the files.
func Sync(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// SyncTree syncs dir and every regular file and directory below it, one by one.
// It is for few files; SyncFileSystem is faster for many.
func SyncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() && !d.Type().IsRegular() {
			return err
		}
		return Sync(path)
	})
}

// SyncFileSystem writes all changes of the file system that holds path to the
// disk, including those of other processes (syncfs(2)).
func SyncFileSystem(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(f.Fd())), f.Close())
}
