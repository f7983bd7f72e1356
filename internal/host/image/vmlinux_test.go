package image

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// makeBzImage wraps a compressed payload the way the kernel's build does.
func makeBzImage(payload []byte, size int) []byte {
	payload = binary.LittleEndian.AppendUint32(bytes.Clone(payload), uint32(size))
	const sects, offset = 5, 0x40
	b := make([]byte, (sects+1)*512+offset)
	b[offSetupSects] = sects
	copy(b[offMagic:], "HdrS")
	binary.LittleEndian.PutUint32(b[offPayloadOffset:], offset)
	binary.LittleEndian.PutUint32(b[offPayloadLength:], uint32(len(payload)))
	return append(append(b, payload...), "a signature follows"...)
}

func packLZ4(t testing.TB, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := lz4.NewWriter(&buf)
	if err := w.Apply(lz4.LegacyOption(true)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func packZstd(t testing.TB, data []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(data, nil)
}

func TestExtractVmlinux(t *testing.T) {
	kernel := append(makeELF(t, pvhNote(), nil), make([]byte, 10<<20)...)
	for name, payload := range map[string][]byte{"lz4": packLZ4(t, kernel), "zstd": packZstd(t, kernel)} {
		got, err := extractVmlinux(makeBzImage(payload, len(kernel)))
		if err != nil || !bytes.Equal(got, kernel) {
			t.Errorf("%s: %d bytes of %d, %v", name, len(got), len(kernel), err)
		}
	}
}

func TestExtractVmlinuxRefuses(t *testing.T) {
	kernel := makeELF(t, pvhNote(), nil)
	good := packZstd(t, kernel)
	noPVH := makeELF(t, nil, nil)
	for name, image := range map[string][]byte{
		"nothing":             nil,
		"no magic":            make([]byte, 4096),
		"cut short":           makeBzImage(good, len(kernel))[:3200],
		"unknown compression": makeBzImage([]byte("BZh9 whatever"), len(kernel)),
		"damaged":             makeBzImage(append(bytes.Clone(good[:20]), make([]byte, 50)...), len(kernel)),
		"wrong size":          makeBzImage(good, len(kernel)+1),
		"smaller size":        makeBzImage(good, len(kernel)-1),
		"a bomb":              makeBzImage(good, maxVmlinux+1),
		"no PVH note":         makeBzImage(packZstd(t, noPVH), len(noPVH)),
		"not ELF":             makeBzImage(packZstd(t, make([]byte, 999)), 999),
	} {
		if _, err := extractVmlinux(image); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzExtractVmlinux(f *testing.F) {
	kernel := makeELF(f, pvhNote(), nil)
	f.Add(makeBzImage(packZstd(f, kernel), len(kernel)))
	f.Add(makeBzImage(packLZ4(f, kernel), len(kernel)))
	f.Fuzz(func(_ *testing.T, image []byte) {
		_, _ = extractVmlinux(image) // must return for every input
	})
}
