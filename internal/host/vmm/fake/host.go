package fake

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

// Host is the computer on which the fake VM processes run. Its methods may be
// called concurrently.
type Host struct {
	dir string // for the files of running guests

	mu        sync.Mutex // protects the following
	processes map[uint64]*process
	taps      map[string]*process
	started   uint64
}

// NewHost returns a host without VMs. It keeps the files of running guests
// in dir, which the caller removes after [Host.Close].
func NewHost(dir string) *Host {
	return &Host{dir: dir, processes: make(map[uint64]*process), taps: make(map[string]*process)}
}

// Close ends every VM.
func (h *Host) Close() {
	for _, rec := range h.Records() {
		h.End(rec, vmm.CauseKilled)
	}
}

// Records returns the records of the VMs that run.
func (h *Host) Records() []vmm.Record {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []vmm.Record
	for _, p := range h.processes {
		out = append(out, p.rec)
	}
	return out
}

// Dial connects to a TCP port of the guest whose network card is the tap device
// with the path tap. It waits while the guest is stopped.
func (h *Host) Dial(ctx context.Context, tap string, port uint16) (net.Conn, error) {
	h.mu.Lock()
	p := h.taps[tap]
	h.mu.Unlock()
	if p == nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.EHOSTUNREACH}
	}
	return p.dial(ctx, port)
}

// End ends the VM of rec with cause. A VM that has ended is left alone.
func (h *Host) End(rec vmm.Record, cause vmm.Cause) {
	if p := h.find(rec); p != nil {
		p.end(cause)
	}
}

// Stop makes the VMM process of rec stop answering, as SIGSTOP does: calls wait,
// and take effect in their order after [Host.Continue].
func (h *Host) Stop(rec vmm.Record) {
	if p := h.find(rec); p != nil {
		p.stop()
	}
}

// Continue ends the effect of [Host.Stop].
func (h *Host) Continue(rec vmm.Record) {
	if p := h.find(rec); p != nil {
		p.cont()
	}
}

// Silence makes the guest of rec unresponsive, or responsive again. Its VMM
// answers all the while.
func (h *Host) Silence(rec vmm.Record, silent bool) {
	if p := h.find(rec); p != nil {
		p.silence(silent)
	}
}

// MarkAs makes Find report dir as the directory of rec's process: the process
// was started before its directory was renamed.
func (h *Host) MarkAs(rec vmm.Record, dir string) {
	if p := h.find(rec); p != nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		p.rec.Dir = dir
	}
}

// Alive reports whether the VM of rec runs.
func (h *Host) Alive(rec vmm.Record) bool { return h.find(rec) != nil }

// Count increments a counter in the memory of rec's guest and returns it. It
// fails while the guest is stopped.
func (h *Host) Count(rec vmm.Record) (int, error) {
	p := h.find(rec)
	if p == nil {
		return 0, os.ErrProcessDone
	}
	return p.count()
}

// find returns the running process of rec, by its identity and not its number
// alone, or nil.
func (h *Host) find(rec vmm.Record) *process {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.processes[rec.StartTicks]
	if p == nil || p.rec.PID != rec.PID || p.rec.BootID != rec.BootID {
		return nil
	}
	return p
}

// enter adds p to the running processes and gives it an identity. Fake
// processes share the number of this one; their start times differ by two, so
// that the next number is nobody's.
func (h *Host) enter(p *process) error {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if other := h.taps[p.tap]; other != nil {
		return fmt.Errorf("the tap device is in use by %s", other.rec.ID)
	}
	h.started += 2
	p.rec.PID, p.rec.StartTicks, p.rec.BootID = os.Getpid(), h.started, strings.TrimSpace(string(boot))
	h.processes[p.rec.StartTicks], h.taps[p.tap] = p, p
	return nil
}

// leave removes p from the running processes.
func (h *Host) leave(p *process) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.processes, p.rec.StartTicks)
	if h.taps[p.tap] == p {
		delete(h.taps, p.tap)
	}
}

// below returns the records of a driver's processes whose directory lies under root.
func (h *Host) below(root, driver string) (out []vmm.Record) {
	for _, rec := range h.Records() {
		if rel, err := filepath.Rel(root, rec.Dir); rec.Driver == driver && err == nil && filepath.IsLocal(rel) {
			out = append(out, rec)
		}
	}
	return out
}

// newStamp returns a new stamp for the parts of one stop.
func newStamp() string { return rand.Text() }

// exitAt is the Exit of a process that ends now.
func exitAt(cause vmm.Cause) vmm.Exit {
	return vmm.Exit{Cause: cause, Detail: "the fake VM ended: " + string(cause), At: time.Now()}
}
