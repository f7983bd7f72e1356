package image

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"testing"
)

// makeELF returns a small x86-64 ELF file with one PT_NOTE segment that
// holds note, and one section .modinfo that holds info.
func makeELF(t testing.TB, note, info []byte) []byte {
	t.Helper()
	const ehsize, phsize, shsize = 64, 56, 64
	names := []byte("\x00.modinfo\x00.shstrtab\x00")
	noteAt := ehsize + phsize
	infoAt := noteAt + len(note)
	namesAt := infoAt + len(info)
	sectionsAt := namesAt + len(names)
	header := elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1,
		Phoff: ehsize, Shoff: uint64(sectionsAt), Ehsize: ehsize, Phentsize: phsize, Phnum: 1,
		Shentsize: shsize, Shnum: 3, Shstrndx: 2,
	}
	var buf bytes.Buffer
	for _, part := range []any{
		header,
		elf.Prog64{Type: uint32(elf.PT_NOTE), Off: uint64(noteAt), Filesz: uint64(len(note)), Memsz: uint64(len(note))},
		note, info, names,
		elf.Section64{},
		elf.Section64{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: uint64(infoAt), Size: uint64(len(info))},
		elf.Section64{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: uint64(namesAt), Size: uint64(len(names))},
	} {
		if err := binary.Write(&buf, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	return buf.Bytes()
}

// pvhNote is the note of a kernel that boots by PVH, after another one.
func pvhNote() []byte {
	var buf bytes.Buffer
	for _, n := range []struct {
		kind uint32
		desc []byte
	}{{6, []byte("linux\x00\x00\x00")}, {noteXenPhys32Entry, make([]byte, 8)}} {
		for _, f := range []uint32{4, uint32(len(n.desc)), n.kind} {
			_ = binary.Write(&buf, binary.LittleEndian, f)
		}
		buf.WriteString("Xen\x00")
		buf.Write(n.desc)
	}
	return buf.Bytes()
}
