package oci

import (
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Limits bound one image. The zero value of a field is its default.
type Limits struct {
	// Manifest and Config are in bytes. Settings of an image are far below.
	Manifest, Config int64
	// Layers is the number of layers; Docker's own limit is 127.
	Layers int
	// Compressed and Unpacked are the bytes of all layers together, Archive those of
	// an archive that a caller sends, after the decompression of the archive itself.
	Compressed, Unpacked, Archive int64
	// Entries is the number of entries of all layers together. Directories that an
	// entry only implies count.
	Entries int
	// Room is the number of bytes that are written between two questions for room on the
	// disk.
	Room int64
	// Stall is how long a registry may send nothing.
	Stall time.Duration
}

// Defaults of Limits.
var defaultLimits = Limits{
	Manifest: 4 << 20, Config: 4 << 20, Layers: 256,
	Compressed: 16 << 30, Unpacked: 32 << 30, Archive: 32 << 30, Entries: 1_000_000, Room: 64 << 20, Stall: time.Minute,
}

// withDefaults returns l with the defaults for fields that are 0.
func (l Limits) withDefaults() Limits {
	d := defaultLimits
	for _, f := range []struct{ have, standard *int64 }{
		{&l.Manifest, &d.Manifest}, {&l.Config, &d.Config}, {&l.Compressed, &d.Compressed}, {&l.Unpacked, &d.Unpacked}, {&l.Archive, &d.Archive},
		{&l.Room, &d.Room},
	} {
		if *f.have == 0 {
			*f.have = *f.standard
		}
	}
	if l.Layers == 0 {
		l.Layers = d.Layers
	}
	if l.Entries == 0 {
		l.Entries = d.Entries
	}
	if l.Stall == 0 {
		l.Stall = d.Stall
	}
	return l
}

const (
	// maxIndexDepth is the largest number of indexes from the reference to a manifest.
	maxIndexDepth = 3

	maxName = 4095 // PATH_MAX of Linux without the final NUL
	maxPart = 255  // NAME_MAX of Linux
	// maxDepth is the largest number of parts of a name.
	maxDepth = 256
)

// tooLarge is the fault of an image that exceeds a limit.
func tooLarge(format string, args ...any) error {
	return fault.New(fault.TooLarge, "image_too_large", "the image is too large: "+format, args...)
}

// damaged is the fault of an image that cannot be read as one.
func damaged(cause error, format string, args ...any) error {
	return fault.Wrap(cause, fault.Invalid, "image_damaged", "the image is damaged: "+format, args...)
}
