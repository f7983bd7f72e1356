package filesystem

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// metadataPrefix is the prefix of the extended attributes in which the protocol's
// clients expect metadata.
const metadataPrefix = "user.e2b."

// Limits of metadata. A key must fit with its prefix into XATTR_NAME_MAX.
const (
	maxMetadataKey   = 246
	maxMetadataTotal = 4096
)

// ValidateMetadata checks that m can be attached to a file.
func ValidateMetadata(m map[string]string) error {
	total := 0
	for k, v := range m {
		total += len(k) + len(v)
		if k == "" || len(k) > maxMetadataKey || !printable(k) || !printable(v) {
			return fault.New(fault.Invalid, "invalid_metadata", "metadata must be printable ASCII, with keys of 1 to %d bytes", maxMetadataKey)
		}
	}
	if total > maxMetadataTotal {
		return fault.New(fault.Invalid, "invalid_metadata", "metadata may have at most %d bytes in all", maxMetadataTotal)
	}
	return nil
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

// writeMetadata attaches m to the new file fd. A file system without extended
// attributes is no error: metadata is then not kept.
func writeMetadata(fd int, m map[string]string) error {
	for k, v := range m {
		err := unix.Fsetxattr(fd, metadataPrefix+strings.ToLower(k), []byte(v), 0)
		if errors.Is(err, unix.ENOTSUP) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readMetadata returns the metadata attached to path. Unreadable metadata counts as
// absent, so that it never makes a listing fail.
func readMetadata(path string) map[string]string {
	size, err := unix.Llistxattr(path, nil)
	if err != nil || size <= 0 {
		return nil
	}
	names := make([]byte, size)
	n, err := unix.Llistxattr(path, names)
	if err != nil || n <= 0 {
		return nil
	}
	var m map[string]string
	value := make([]byte, maxMetadataTotal)
	for _, name := range strings.Split(strings.TrimRight(string(names[:n]), "\x00"), "\x00") {
		key, ok := strings.CutPrefix(name, metadataPrefix)
		if !ok {
			continue
		}
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			continue
		}
		if m == nil {
			m = make(map[string]string)
		}
		m[key] = string(value[:n])
	}
	return m
}
