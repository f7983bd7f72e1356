package boot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ledgerEntries is the number of entries in each ring of a Ledger. It is large
// because kill -9 -1 ends all processes of the guest at once.
const ledgerEntries = 4096

// A ring of a ledger's file is the number of entries ever written and then the
// entries, of which the oldest is overwritten first. An entry is a key and a value
// of eight bytes each, and a name of at most nameBytes, padded with NUL.
const (
	ringHeader = 8
	nameBytes  = 24
	ringEntry  = 16 + nameBytes
	ringBytes  = ringHeader + ledgerEntries*ringEntry
)

// The rings of a ledger's file, in their order.
const (
	startsRing  = 0         // ticket of a command → its process and group, written by agents
	endsRing    = ringBytes // process → its wait status, written by Init
	ledgerBytes = 2 * ringBytes
)

// Ledger records the commands of every agent of a boot: the process of each
// command, and the wait status of each process that Init has reaped. An agent
// reads it to report on the commands of an agent that died. It is a file in memory
// that Init and the agents share. A process that dies while it writes loses that
// one entry.
type Ledger struct {
	file *os.File

	mu   sync.Mutex // protects view, and the ring that this process writes
	view []byte     // the file in memory; nil before it is needed
}

// NewLedger returns an empty Ledger.
func NewLedger() (*Ledger, error) {
	fd, err := unix.MemfdCreate("wrenn-ledger", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make ledger file: %w", err)
	}
	if err := unix.Ftruncate(fd, ledgerBytes); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("size ledger file: %w", err)
	}
	return OpenLedger(os.NewFile(uintptr(fd), "ledger")), nil
}

// OpenLedger returns the Ledger in file, as inherited.
func OpenLedger(file *os.File) *Ledger { return &Ledger{file: file} }

// begin records the process of the command with ticket, or 0 while the command is
// being started in group.
func (l *Ledger) begin(ticket uint64, pid int, group string) error {
	return l.put(startsRing, ticket, uint64(pid), group)
}

// begun returns the last record of begin for ticket, or errNoEntry.
func (l *Ledger) begun(ticket uint64) (pid int, group string, err error) {
	value, group, err := l.get(startsRing, ticket)
	return int(value), group, err
}

// note records the wait status of pid.
func (l *Ledger) note(pid int, status unix.WaitStatus) error {
	return l.put(endsRing, uint64(pid), uint64(status), "")
}

// find returns the wait status of the last process with the number pid, or
// errNoEntry.
func (l *Ledger) find(pid int) (unix.WaitStatus, error) {
	value, _, err := l.get(endsRing, uint64(pid))
	return unix.WaitStatus(value), err
}

// errNoEntry means that a ring has no entry with the key, or no longer has it.
var errNoEntry = errors.New("the ledger has no such entry")

func (l *Ledger) put(ring int, key, value uint64, name string) error {
	if len(name) > nameBytes {
		return fmt.Errorf("the name %q is too long for the ledger", name)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.openLocked(); err != nil {
		return err
	}
	count := l.count(ring)
	n := count.Load()
	e := l.entry(ring, n)
	binary.NativeEndian.PutUint64(e, key)
	binary.NativeEndian.PutUint64(e[8:], value)
	clear(e[16:])
	copy(e[16:], name)
	count.Store(n + 1)
	return nil
}

// get returns the newest entry of key.
func (l *Ledger) get(ring int, key uint64) (value uint64, name string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.openLocked(); err != nil {
		return 0, "", err
	}
	n := l.count(ring).Load()
	for i := uint64(1); i <= min(n, ledgerEntries); i++ {
		if e := l.entry(ring, n-i); binary.NativeEndian.Uint64(e) == key {
			return binary.NativeEndian.Uint64(e[8:]), unix.ByteSliceToString(e[16:]), nil
		}
	}
	return 0, "", errNoEntry
}

// openLocked maps the file, once.
func (l *Ledger) openLocked() error {
	if l.view != nil {
		return nil
	}
	view, err := unix.Mmap(int(l.file.Fd()), 0, ledgerBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map ledger file: %w", err)
	}
	l.view = view
	return nil
}

// count returns the number of entries ever written to ring. It is aligned: the view
// begins on a page, and the size of a ring is a multiple of eight.
func (l *Ledger) count(ring int) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(&l.view[ring]))
}

func (l *Ledger) entry(ring int, i uint64) []byte {
	return l.view[ring+ringHeader+int(i%ledgerEntries)*ringEntry:][:ringEntry]
}
