package image

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// packErofs packs the tree root into one image at path. Every file gets the time
// epoch, in seconds since 1970. The digest, in hex, identifies the content and
// becomes the file system's UUID. Equal trees give equal images.
//
// Both Linux and gVisor's sentry read such an image. The sentry refuses extended
// attributes (-x -1, which also drops file capabilities) and data inside inodes
// (noinline_data). Compression costs more under software emulation than the reads
// it saves, and the sentry has none.
//
// The error is NoCapacity disk_full if the image would leave less than reserve bytes free
// on the disk.
func (s *Store) packErofs(ctx context.Context, root, path, epoch, digest string, reserve uint64, progress Progress) error {
	size, err := erofsBytes(root)
	if err != nil {
		return err
	}
	if err := s.requireSpace(size + reserve); err != nil {
		return err
	}
	// -T sets the time of every file, and mkfs.erofs older than 1.8 has no
	// other way to fix the time in the superblock.
	_, tail, err := s.runTool(ctx, filepath.Dir(root), progress,
		"mkfs.erofs", "-T"+epoch, "-U"+uuidOf(digest), "-Enoinline_data", "-x-1", path, root)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		if s.lowSpace(s.dir) {
			return diskFull(s.dir, err)
		}
		return fmt.Errorf("mkfs.erofs: %w: %s", err, strings.Join(tail, " / "))
	}
	return os.Chmod(path, 0o400) // VMM processes get it open
}

// erofsBlock is the size of a block of an image, in bytes.
const erofsBlock = 4096

// erofsBytes returns about the size of the image of the tree root, in bytes: whole blocks
// for the content of files, and inodes with names and targets of links, which are packed.
// A file with several names counts once.
func erofsBytes(root string) (uint64, error) {
	seen := make(map[uint64]bool)
	var total uint64
	err := filepath.WalkDir(root, func(name string, _ fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil {
			err = unix.Lstat(name, &st)
		}
		if err != nil {
			return err
		}
		total += 12 + uint64(len(filepath.Base(name))) // an entry of a directory
		if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			if seen[st.Ino] {
				return nil
			}
			seen[st.Ino] = true
		}
		total += 64 // the extended form of an inode
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			total += (uint64(st.Size) + erofsBlock - 1) / erofsBlock * erofsBlock
		case unix.S_IFLNK:
			total += uint64(st.Size)
		}
		return nil
	})
	return total, err
}

// uuidOf derives a file system UUID from a digest in hex (RFC 9562, version 8: the
// content is the application's).
func uuidOf(digest string) string {
	d := []byte(digest[:32])
	d[12], d[16] = '8', '8'
	return fmt.Sprintf("%s-%s-%s-%s-%s", d[:8], d[8:12], d[12:16], d[16:20], d[20:])
}
