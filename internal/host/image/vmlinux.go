package image

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// maxVmlinux bounds the unpacked size of a kernel, in bytes. Debian's is 53 MB.
const maxVmlinux = 256 << 20

// Offsets into a bzImage: "The Linux/x86 Boot Protocol", sections "The
// Real-Mode Kernel Header" and "Details of Header Fields".
const (
	offSetupSects    = 0x1f1
	offMagic         = 0x202
	offPayloadOffset = 0x248
	offPayloadLength = 0x24c
	headerEnd        = 0x250
)

// noteXenPhys32Entry is XEN_ELFNOTE_PHYS32_ENTRY of xen/include/public/elfnote.h:
// its presence makes a kernel bootable by the PVH protocol.
const noteXenPhys32Entry = 18

// extractVmlinux returns the uncompressed ELF kernel inside a bzImage.
func extractVmlinux(bzImage []byte) ([]byte, error) {
	if len(bzImage) < headerEnd || string(bzImage[offMagic:offMagic+4]) != "HdrS" {
		return nil, errors.New("not a bzImage: the boot protocol magic is missing")
	}
	sects := int64(bzImage[offSetupSects])
	if sects == 0 {
		sects = 4 // boot protocol: for backwards compatibility 0 means 4
	}
	start := (sects+1)*512 + int64(binary.LittleEndian.Uint32(bzImage[offPayloadOffset:]))
	length := int64(binary.LittleEndian.Uint32(bzImage[offPayloadLength:]))
	if length < 8 || start+length > int64(len(bzImage)) {
		return nil, errors.New("bzImage is cut short: its payload lies outside of the file")
	}
	payload := bzImage[start : start+length]
	// The build appends the uncompressed size to the compressed stream.
	size := int64(binary.LittleEndian.Uint32(payload[length-4:]))
	if size > maxVmlinux {
		return nil, fmt.Errorf("kernel unpacks to %d bytes, more than %d", size, maxVmlinux)
	}
	out, err := decompressPayload(payload[:length-4], size)
	if err != nil {
		return nil, err
	}
	if int64(len(out)) != size {
		return nil, fmt.Errorf("kernel unpacks to %d bytes, its header says %d", len(out), size)
	}
	return out, checkPVH(out)
}

// decompressPayload knows the compressions that Debian kernels use.
func decompressPayload(payload []byte, size int64) ([]byte, error) {
	var r io.Reader
	switch {
	case bytes.HasPrefix(payload, []byte{0x02, 0x21, 0x4c, 0x18}): // LZ4 legacy frame
		r = lz4.NewReader(bytes.NewReader(payload))
	case bytes.HasPrefix(payload, []byte{0x28, 0xb5, 0x2f, 0xfd}): // zstd frame
		d, err := zstd.NewReader(bytes.NewReader(payload), zstd.WithDecoderMaxMemory(maxVmlinux))
		if err != nil {
			return nil, err
		}
		defer d.Close()
		r = d
	default:
		return nil, fmt.Errorf("kernel is compressed in an unknown way (starts with % x)", payload[:4])
	}
	out := bytes.NewBuffer(make([]byte, 0, size+bytes.MinRead))
	if _, err := io.Copy(out, io.LimitReader(r, size+1)); err != nil {
		return nil, fmt.Errorf("unpack kernel: %w", err)
	}
	return out.Bytes(), nil
}

// checkPVH reports whether vmlinux is an x86-64 ELF file with a PVH entry,
// the form that the hypervisors boot.
func checkPVH(vmlinux []byte) error {
	f, err := elf.NewFile(bytes.NewReader(vmlinux))
	if err != nil {
		return fmt.Errorf("kernel is no ELF file: %w", err)
	}
	if f.Machine != elf.EM_X86_64 {
		return fmt.Errorf("kernel is for %v, not for x86-64", f.Machine)
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_NOTE {
			continue
		}
		notes, err := io.ReadAll(io.LimitReader(p.Open(), 1<<20))
		if err != nil {
			return err
		}
		if hasNote(notes, "Xen", noteXenPhys32Entry) {
			return nil
		}
	}
	return errors.New("kernel has no PVH entry note")
}

// hasNote looks for a note in a PT_NOTE segment (elf(5): namesz, descsz and
// type, then name and descriptor, each padded to four bytes).
func hasNote(notes []byte, name string, kind uint32) bool {
	pad := func(n uint32) int { return int((uint64(n) + 3) &^ 3) }
	for len(notes) >= 12 {
		namesz := binary.LittleEndian.Uint32(notes)
		descsz := binary.LittleEndian.Uint32(notes[4:])
		noteKind := binary.LittleEndian.Uint32(notes[8:])
		next := 12 + pad(namesz) + pad(descsz)
		if next > len(notes) {
			return false
		}
		if noteKind == kind && string(bytes.TrimRight(notes[12:12+int(namesz)], "\x00")) == name {
			return true
		}
		notes = notes[next:]
	}
	return false
}
