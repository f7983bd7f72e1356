package image

import (
	"bytes"
	"fmt"
)

// File types of cpio modes, as in stat(2).
const (
	cpioDir  = 0o040000
	cpioFile = 0o100000
	cpioChar = 0o020000
)

// cpioEntry is one file of an archive, owned by root and with no time.
type cpioEntry struct {
	name         string
	mode         uint32
	major, minor uint32 // of a device node
	data         []byte
}

// cpioWriter writes the "newc" format that the kernel unpacks (the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst). Equal entries
// give equal bytes.
type cpioWriter struct {
	buf   bytes.Buffer
	inode uint32
}

func (w *cpioWriter) add(e cpioEntry) {
	w.inode++
	links := uint32(1)
	if e.mode&cpioDir != 0 && e.mode&cpioFile == 0 {
		links = 2
	}
	fields := [...]uint32{
		w.inode, e.mode, 0, 0, links, 0, uint32(len(e.data)),
		0, 0, e.major, e.minor, uint32(len(e.name) + 1), 0,
	}
	w.buf.WriteString("070701")
	for _, f := range fields {
		fmt.Fprintf(&w.buf, "%08x", f)
	}
	w.buf.WriteString(e.name)
	w.buf.WriteByte(0)
	w.pad()
	w.buf.Write(e.data)
	w.pad()
}

// pad fills up to the four bytes that headers and data are aligned to.
func (w *cpioWriter) pad() {
	for w.buf.Len()%4 != 0 {
		w.buf.WriteByte(0)
	}
}

// finish adds the trailer and returns the archive.
func (w *cpioWriter) finish() []byte {
	w.inode = ^uint32(0) // the trailer's inode number is 0
	w.add(cpioEntry{name: "TRAILER!!!"})
	return w.buf.Bytes()
}
