package memory

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

// table is the part of a difference beside the pages. The file is
//
//	a header of one page: magic, size of guest memory, offset and number of
//	  the entries, checksum of the entries, checksum of the header
//	the pages of the runs, one run after the other
//	one entry for each run
//
// All numbers are little-endian. The header is written last, so that a file
// that was cut off has none. Checksums are CRC-32C (RFC 3720, section B.4),
// which every CPU of the kind computes faster than it reads memory: they detect
// damage, not intent: a process that can write the file can also write a checksum.
type table struct {
	memory int64
	runs   []run
}

// run is consecutive pages of guest memory, at most copyPages.
type run struct {
	offset, size int64 // in guest memory, in bytes
	data         int64 // offset in the file; none if zero
	sum          uint32
	zero         bool
}

const (
	magic      = "wrenndf1"
	headerSize = len(magic) + 3*8 + 2*4
	entrySize  = 3*8 + 2*4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(data []byte) uint32 { return crc32.Checksum(data, castagnoli) }

// writeTable writes t to f, whose pages end at offset at.
func writeTable(f *os.File, t table, at int64) error {
	entries := make([]byte, 0, len(t.runs)*entrySize)
	for _, r := range t.runs {
		entries = binary.LittleEndian.AppendUint64(entries, uint64(r.offset))
		entries = binary.LittleEndian.AppendUint64(entries, uint64(r.size))
		entries = binary.LittleEndian.AppendUint64(entries, uint64(r.data))
		entries = binary.LittleEndian.AppendUint32(entries, r.sum)
		kind := uint32(0)
		if r.zero {
			kind = 1
		}
		entries = binary.LittleEndian.AppendUint32(entries, kind)
	}
	if _, err := f.WriteAt(entries, at); err != nil {
		return err
	}
	header := append(make([]byte, 0, headerSize), magic...)
	header = binary.LittleEndian.AppendUint64(header, uint64(t.memory))
	header = binary.LittleEndian.AppendUint64(header, uint64(at))
	header = binary.LittleEndian.AppendUint64(header, uint64(len(t.runs)))
	header = binary.LittleEndian.AppendUint32(header, checksum(entries))
	header = binary.LittleEndian.AppendUint32(header, checksum(header))
	_, err := f.WriteAt(header, 0)
	return err
}

// CheckDiff reports, as ErrDamaged, whether the table of the difference in f is
// not whole or not for a guest memory of size bytes. The pages are checked
// when they are applied.
func CheckDiff(f *os.File, size int64) error {
	t, err := readTable(f)
	if err == nil && t.memory != size {
		err = fmt.Errorf("%w: it is for %d bytes of memory, not %d", ErrDamaged, t.memory, size)
	}
	return err
}

// readTable reads and checks the table of f.
func readTable(f *os.File) (table, error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(io.NewSectionReader(f, 0, int64(headerSize)), header[:]); err != nil {
		return table{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	fixed := header[:headerSize-4]
	if !bytes.HasPrefix(fixed, []byte(magic)) || checksum(fixed) != binary.LittleEndian.Uint32(header[headerSize-4:]) {
		return table{}, fmt.Errorf("%w: its header is wrong", ErrDamaged)
	}
	number := func(i int) int64 { return int64(binary.LittleEndian.Uint64(fixed[len(magic)+8*i:])) }
	t := table{memory: number(0)}
	at, count := number(1), number(2)
	st, err := f.Stat()
	if err != nil {
		return table{}, err
	}
	if at < PageSize || count < 0 || at > st.Size() || count > (st.Size()-at)/entrySize {
		return table{}, fmt.Errorf("%w: its header is wrong", ErrDamaged)
	}
	entries := make([]byte, count*entrySize)
	if _, err := io.ReadFull(io.NewSectionReader(f, at, int64(len(entries))), entries); err != nil {
		return table{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if checksum(entries) != binary.LittleEndian.Uint32(fixed[len(fixed)-4:]) {
		return table{}, fmt.Errorf("%w: its table is wrong", ErrDamaged)
	}
	t.runs = make([]run, count)
	for i := range t.runs {
		r := readRun(entries[i*entrySize:])
		if !r.fits(t.memory, at) {
			return table{}, fmt.Errorf("%w: an entry of its table is wrong", ErrDamaged)
		}
		t.runs[i] = r
	}
	return t, nil
}

func readRun(entry []byte) run {
	return run{
		offset: int64(binary.LittleEndian.Uint64(entry)), size: int64(binary.LittleEndian.Uint64(entry[8:])),
		data: int64(binary.LittleEndian.Uint64(entry[16:])), sum: binary.LittleEndian.Uint32(entry[24:]),
		zero: binary.LittleEndian.Uint32(entry[28:]) == 1,
	}
}

// fits reports whether r lies in a guest memory of memory bytes and its data
// before offset end of the file.
func (r run) fits(memory, end int64) bool {
	whole := func(n int64) bool { return n >= 0 && n%PageSize == 0 }
	return whole(r.offset) && whole(r.size) && r.size > 0 && r.size <= copyPages*PageSize &&
		r.offset <= memory-r.size && (r.zero || whole(r.data) && r.data >= PageSize && r.data <= end-r.size)
}
