package fake

import (
	"context"
	"os"
	"path/filepath"
	"sync"

	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

// process is one VM process with its guest.
//
// Invariants: mem is mapped until exited is closed; the guest changes its
// memory only while gate is open, which is while the virtual CPUs run, the
// process is not stopped and the guest is not silenced.
type process struct {
	host *Host
	cfg  vmm.Config
	rec  vmm.Record
	tap  string
	root string // of the guest's files

	guest  *guest
	exited chan struct{}
	exit   vmm.Exit // valid once exited is closed

	mu      sync.Mutex // protects the following
	mem     []byte
	running bool          // the virtual CPUs
	stopped bool          // the process, see Host.Stop
	silent  bool          // the guest
	waiting []func()      // calls that a stopped process has not handled
	gate    chan struct{} // closed while the guest runs
	opened  bool
	stamp   string // of the last stop
	files   []byte // archive of the guest's files at the last stop, if it has no disk
	copying *os.File
}

func newProcess(h *Host, driver string, cfg vmm.Config) *process {
	return &process{
		host: h, cfg: cfg, exited: make(chan struct{}), gate: make(chan struct{}),
		rec: vmm.Record{Driver: driver, ID: cfg.ID, Dir: cfg.Dir, MemoryFile: filepath.Join(cfg.Dir, "memory")},
	}
}

// call has the process do something and returns the result. A stopped process
// does it once it continues; then ctx may have ended before.
func (p *process) call(ctx context.Context, do func() error) error {
	result := make(chan error, 1)
	run := func() {
		if p.ended() {
			result <- errGone
			return
		}
		result <- do()
	}
	p.mu.Lock()
	if p.stopped {
		p.waiting = append(p.waiting, run)
	} else {
		run()
	}
	p.mu.Unlock()
	select {
	case err := <-result:
		return err
	case <-p.exited:
		return errGone
	case <-ctx.Done():
		return ctx.Err()
	}
}

// do calls f with the lock held, unless the process has ended.
func (p *process) do(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended() {
		f()
	}
}

func (p *process) ended() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// setGate opens or closes the gate as the state demands. mu must be held.
func (p *process) setGate() {
	open := p.running && !p.stopped && !p.silent
	if open == p.opened {
		return
	}
	p.opened = open
	if open {
		close(p.gate)
	} else {
		p.gate = make(chan struct{})
	}
}

// whenRunning waits until the guest runs and calls f, which may change the
// guest's memory. It fails when the process has ended.
func (p *process) whenRunning(f func() error) error {
	for {
		if err := p.awaitRunning(context.Background()); err != nil {
			return err
		}
		p.mu.Lock()
		if p.opened && !p.ended() {
			defer p.mu.Unlock()
			return f()
		}
		p.mu.Unlock()
	}
}

// awaitRunning waits until the guest runs.
func (p *process) awaitRunning(ctx context.Context) error {
	p.mu.Lock()
	gate := p.gate
	p.mu.Unlock()
	select {
	case <-gate:
		return nil
	case <-p.exited:
		return errGone
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *process) stop() { p.do(func() { p.stopped = true; p.setGate() }) }

func (p *process) cont() {
	p.do(func() {
		p.stopped = false
		for _, run := range p.waiting {
			run()
		}
		p.waiting = nil
		p.setGate()
	})
}

func (p *process) silence(silent bool) { p.do(func() { p.silent = silent; p.setGate() }) }

// pause stops the virtual CPUs and writes the guest's files to its disk. mu must
// be held, as in resume.
func (p *process) pause() error {
	if !p.running {
		return nil
	}
	p.running = false
	p.setGate()
	p.stamp = newStamp()
	if err := p.updateRAM(func(r *ram) { r.Stamp = p.stamp }); err != nil {
		return err
	}
	files, err := archive(p.root)
	if err != nil || p.cfg.Disk == "" {
		p.files = files
		return err
	}
	return writeDisk(p.cfg.Disk, p.stamp, files)
}

// resume starts the virtual CPUs. From here on the disk belongs to no snapshot.
func (p *process) resume() error {
	if p.running {
		return nil
	}
	if p.cfg.Disk != "" {
		if err := spoilDisk(p.cfg.Disk); err != nil {
			return err
		}
	}
	p.running = true
	p.setGate()
	return nil
}

// end ends the process with cause, once.
func (p *process) end(cause vmm.Cause) {
	p.mu.Lock()
	if p.ended() {
		p.mu.Unlock()
		return
	}
	p.exit = exitAt(cause)
	p.abandonCopy()
	p.host.leave(p)
	close(p.exited)
	p.unmap()
	p.mu.Unlock()
	p.release()
}

// release frees the resources of a process that does not run.
func (p *process) release() {
	if p.guest != nil {
		p.guest.close()
	}
	p.mu.Lock()
	p.unmap()
	p.mu.Unlock()
	_ = os.Remove(p.rec.MemoryFile)
	if p.root != "" {
		_ = os.RemoveAll(p.root)
	}
}

// count increments the counter in guest memory.
func (p *process) count() (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended() || !p.opened {
		return 0, errGone
	}
	err = p.updateRAM(func(r *ram) { r.Counter++; n = r.Counter })
	return n, err
}
