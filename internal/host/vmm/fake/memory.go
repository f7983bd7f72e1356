package fake

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/host/disk"
	"github.com/wrenn-dev/wrenn/internal/host/memory"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/mapped"
)

const (
	// pageSize is the unit in which memory differs from its base.
	pageSize = 4096
	// used is how much of its memory a fake guest uses, from address 0, in bytes.
	used = 256 << 10
)

// ram is the content of guest memory, stored as JSON after its length.
type ram struct {
	// Stamp is that of the last stop.
	Stamp    string
	Settings []byte // of the guest agent
	Counter  int
}

// filling is held while a base is mapped for a delta. Package memory finds
// mappings by process and file, and all fake VMs share a process.
var filling sync.Mutex

// loadMemory maps a copy of the memory of from, or a blank one for the zero Image.
//
// Each VM has a file of its own, because the mapping of one must be told from
// those of other VMs with the same base.
func (p *process) loadMemory(ctx context.Context, from vmm.Image) (err error) {
	if from.Base == "" {
		err = memory.CreateBase(p.rec.MemoryFile, int64(p.cfg.MemoryMB)<<20)
	} else {
		_, err = disk.Clone(ctx, p.rec.MemoryFile, mapped.MemoryFile(from.Base))
	}
	if err != nil {
		return err
	}
	mem, err := mapFile(p.rec.MemoryFile, int64(p.cfg.MemoryMB)<<20)
	if err != nil {
		return err
	}
	p.mem = mem
	if from.Delta == "" {
		return nil
	}
	filling.Lock()
	defer filling.Unlock()
	base, err := mapFile(mapped.MemoryFile(from.Base), int64(len(mem)))
	if err != nil {
		return err
	}
	if err := mapped.Fill(ctx, from, os.Getpid(), mapped.MemoryFile(from.Base)); err != nil {
		return errors.Join(err, unix.Munmap(base))
	}
	for at := 0; at < used; at += pageSize {
		if page := base[at : at+pageSize]; !bytes.Equal(page, mem[at:at+pageSize]) {
			copy(mem[at:], page)
		}
	}
	return unix.Munmap(base)
}

func mapFile(path string, size int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Size() != size {
		return nil, fmt.Errorf("the memory file has %d bytes, want %d", st.Size(), size)
	}
	return unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
}

// unmap frees guest memory. mu must be held.
func (p *process) unmap() {
	if p.mem != nil {
		_ = unix.Munmap(p.mem)
		p.mem = nil
	}
}

// readRAM returns the content of memory. mu must be held, as in updateRAM.
func (p *process) readRAM() (r ram, err error) {
	if p.mem == nil {
		return r, errGone
	}
	size := binary.LittleEndian.Uint64(p.mem)
	if size > used-8 {
		return r, errors.New("guest memory is damaged")
	}
	if size > 0 {
		err = json.Unmarshal(bytes.Clone(p.mem[8:8+size]), &r)
	}
	return r, err
}

// updateRAM changes the content of memory.
func (p *process) updateRAM(change func(*ram)) error {
	r, err := p.readRAM()
	if err != nil {
		return err
	}
	change(&r)
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if len(data) > used-8 {
		return errors.New("guest memory is full")
	}
	binary.LittleEndian.PutUint64(p.mem, uint64(len(data)))
	copy(p.mem[8:], data)
	return nil
}
