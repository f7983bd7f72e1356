package image

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// packErofs packs the tree root into one image at path. Every file gets the time
// epoch, in seconds since 1970. The digest, in hex, identifies the content and
// becomes the file system's UUID. Equal trees give equal images.
//
// Both Linux and gVisor's sentry read such an image. The sentry refuses extended
// attributes (-x -1, which also drops file capabilities) and data inside inodes
// (noinline_data). Compression costs more under software emulation than the reads
// it saves, and the sentry has none.
func (s *Store) packErofs(ctx context.Context, root, path, epoch, digest string, progress Progress) error {
	// -T sets the time of every file, and mkfs.erofs older than 1.8 has no
	// other way to fix the time in the superblock.
	_, tail, err := s.runTool(ctx, filepath.Dir(root), progress,
		"mkfs.erofs", "-T"+epoch, "-U"+uuidOf(digest), "-Enoinline_data", "-x-1", path, root)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		if lowSpace(s.dir) {
			return diskFull(s.dir, err)
		}
		return fmt.Errorf("mkfs.erofs: %w: %s", err, strings.Join(tail, " / "))
	}
	return os.Chmod(path, 0o400) // VMM processes get it open
}

// uuidOf derives a file system UUID from a digest in hex (RFC 9562, version 8: the
// content is the application's).
func uuidOf(digest string) string {
	d := []byte(digest[:32])
	d[12], d[16] = '8', '8'
	return fmt.Sprintf("%s-%s-%s-%s-%s", d[:8], d[8:12], d[12:16], d[16:20], d[20:])
}
