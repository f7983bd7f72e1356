package image

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/wrenn-dev/wrenn/internal/linux/filesum"
)

// digestTree returns one SHA-256 in hex over the path, size and content of
// every file under dir, in lexical order, except those named in skip
// (relative to dir). Anything but files and directories is an error.
func digestTree(dir string, skip ...string) (string, error) {
	skipped := make(map[string]bool, len(skip))
	for _, s := range skip {
		skipped[s] = true
	}
	sum := sha256.New()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil || skipped[rel] {
			return err
		}
		if !d.Type().IsRegular() {
			return fmt.Errorf("%s is neither a file nor a directory", path)
		}
		digest, size, err := filesum.SHA256(path)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(sum, "%s %d %s\n", digest, size, rel)
		return err
	})
	if err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
