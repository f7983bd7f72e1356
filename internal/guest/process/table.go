package process

import (
	"cmp"
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Table holds the commands of one agent.
//
// Invariants: a process is in the table from its start until Retention after
// its end, or RecordRetention with an ID; at most MaxRunning run and at most
// MaxFinished ended ones without and MaxRecords with an ID are kept (the oldest is
// dropped first), and fewer where a new command needs their part of MaxTableBytes; a PID finds a running process before an ended one; two processes
// never have the same ID.
type Table struct {
	groups Groups
	room   room
	briefs briefs
	work   sync.WaitGroup
	// protected: commands inherit a protection from the kernel's out-of-memory killer
	// that they must not keep.
	protected bool

	// starts is held by each start under way, and as a whole between Hold and Continue.
	starts *semaphore.Weighted

	mu        sync.Mutex // protects the following
	held      bool       // starts is held as a whole
	closed    bool
	nextKey   uint64
	bytes     int
	running   map[uint64]*Process
	finished  []*Process // oldest first
	forget    map[uint64]*time.Timer
	lingering map[*os.File]struct{}
	starting  int
	ids       map[string]*Process // nil while the command is being started
}

// NewTable returns an empty table whose commands run in groups.
func NewTable(groups Groups) *Table {
	if groups == nil {
		panic("process: nil Groups")
	}
	return &Table{
		groups:    groups,
		protected: isProtected(),
		starts:    semaphore.NewWeighted(MaxRunning),
		running:   make(map[uint64]*Process),
		forget:    make(map[uint64]*time.Timer),
		lingering: make(map[*os.File]struct{}),
		ids:       make(map[string]*Process),
		room:      room{total: journalRoom()},
	}
}

// Start runs spec and returns it with a subscription that misses no output.
// A missing command, a bad directory and similar mistakes are Invalid. An ID that is
// taken is Exists process_exists.
func (t *Table) Start(spec Spec) (*Process, *Subscription, error) {
	if err := spec.validate(); err != nil {
		return nil, nil, err
	}
	if err := checkDir(spec.Dir); err != nil {
		return nil, nil, err
	}
	path, err := lookup(&spec)
	if err != nil {
		return nil, nil, err
	}
	key, err := t.reserve(&spec)
	if err != nil {
		return nil, nil, err
	}
	_ = t.starts.Acquire(context.Background(), 1) // it cannot fail
	p, err := t.launch(key, path, spec)
	t.starts.Release(1)
	if err != nil {
		t.unreserve(&spec)
		return nil, nil, err
	}
	sub, err := p.Subscribe()
	t.admit(p)
	if err != nil {
		return nil, nil, err
	}
	return p, sub, nil
}

// reserve takes space in the table for one command, and its ID.
func (t *Table) reserve(spec *Spec) (key uint64, err error) {
	size := spec.bytes()
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.bytes+size > MaxTableBytes && len(t.finished) > 0 {
		t.forgetLocked(t.finished[0].key)
	}
	switch {
	case t.closed:
		return 0, fault.New(fault.WrongState, "shutting_down", "the sandbox is shutting down")
	case len(t.running)+t.starting >= MaxRunning:
		return 0, fault.New(fault.Quota, "too_many_processes", "at most %d commands may run at once", MaxRunning)
	case t.bytes+size > MaxTableBytes:
		return 0, fault.New(fault.Quota, "too_many_processes", "running commands hold too much in arguments and environment")
	}
	if spec.ID != "" {
		if _, taken := t.ids[spec.ID]; taken {
			return 0, fault.New(fault.Exists, "process_exists", "there is a process with this id already")
		}
		t.ids[spec.ID] = nil
	}
	t.nextKey++
	t.starting++
	t.bytes += size
	t.work.Add(1)
	return t.nextKey, nil
}

func (t *Table) unreserve(spec *Spec) {
	t.mu.Lock()
	t.starting--
	t.bytes -= spec.bytes()
	delete(t.ids, spec.ID)
	t.mu.Unlock()
	t.work.Done()
}

// launch starts the main process of a new command.
func (t *Table) launch(key uint64, path string, spec Spec) (*Process, error) {
	p := &Process{key: key, spec: spec, journal: t.journal(&spec), started: time.Now(), ended: make(chan struct{})}
	p.limit = p.journal.limit
	name := strconv.FormatUint(key, 10)
	if spec.Starting != nil {
		spec.Starting(name)
	}
	group, err := t.groups.NewGroup(name)
	if err != nil {
		return nil, startFault(spec.Cmd, errors.Join(syscall.EAGAIN, err))
	}
	if err := p.files.open(&p.spec); err != nil {
		group.Release()
		return nil, startFault(spec.Cmd, errors.Join(syscall.EAGAIN, err))
	}
	p.group = group
	p.pid, p.pidfd, err = launch(path, &p.spec, &p.files, group)
	p.files.closeInherited()
	if err != nil {
		p.files.closeOurs()
		group.Release()
		return nil, startFault(spec.Cmd, err)
	}
	if spec.Started != nil {
		spec.Started(p.pid)
	}
	if t.protected {
		exposeToOOM(p.pid, group)
	}
	if p.files.input != nil {
		p.input = newInput(p.files.input)
	}
	return p, nil
}

// journal returns an empty journal for the command of spec.
func (t *Table) journal(spec *Spec) *journal {
	if spec.ID == "" {
		j := newJournal(&t.room, briefJournal)
		j.brief = true
		return j
	}
	j := newJournal(&t.room, min(cmp.Or(spec.Journal, DefaultJournal), MaxJournal))
	j.block = spec.Block
	return j
}

// admit makes p findable and starts its supervision, which the table waits
// for in Close.
func (t *Table) admit(p *Process) {
	t.mu.Lock()
	t.starting--
	t.running[p.key] = p
	if p.spec.ID != "" {
		t.ids[p.spec.ID] = p
	}
	t.mu.Unlock()
	if p.spec.ID == "" && !p.spec.Unrecorded {
		p.brief = newBrief(&p.spec, p.started)
		t.briefs.add(p.brief)
	}
	go func() {
		defer t.work.Done()
		p.run(&t.briefs, t.linger)
		t.retire(p)
	}()
}

// retire moves p to the ended commands and forgets it when its time is over.
func (t *Table) retire(p *Process) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.running, p.key)
	if t.closed {
		return
	}
	t.finished = append(t.finished, p)
	named, most, keep := p.spec.ID != "", MaxFinished, Retention
	if named {
		most, keep = MaxRecords, RecordRetention
	}
	t.forget[p.key] = time.AfterFunc(keep, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.forgetLocked(p.key)
	})
	count := 0
	for i := len(t.finished) - 1; i >= 0; i-- {
		if (t.finished[i].spec.ID != "") != named {
			continue
		}
		if count++; count > most {
			t.forgetLocked(t.finished[i].key)
		}
	}
}

func (t *Table) forgetLocked(key uint64) {
	if timer := t.forget[key]; timer != nil {
		timer.Stop()
		delete(t.forget, key)
	}
	t.finished = slices.DeleteFunc(t.finished, func(p *Process) bool {
		if p.key != key {
			return false
		}
		t.bytes -= p.spec.bytes()
		delete(t.ids, p.spec.ID)
		t.room.forget(p.journal)
		return true
	})
}

// linger keeps reading src for the children of an ended command, unless MaxLingering
// streams are read already.
func (t *Table) linger(src source) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || len(t.lingering) >= MaxLingering {
		_ = src.file.Close()
		return
	}
	t.lingering[src.file] = struct{}{}
	t.work.Go(func() {
		src.discard()
		_ = src.file.Close()
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.lingering, src.file)
	})
}

// Close kills every command and returns when all have ended or ctx has. No
// command can be started afterwards.
func (t *Table) Close(ctx context.Context) error {
	t.mu.Lock()
	t.closed = true
	running := make([]*Process, 0, len(t.running))
	for _, p := range t.running {
		running = append(running, p)
	}
	for f := range t.lingering {
		_ = f.SetReadDeadline(time.Unix(1, 0))
	}
	for key := range t.forget {
		t.forgetLocked(key)
	}
	t.mu.Unlock()
	for _, p := range running {
		_ = p.Signal(syscall.SIGKILL)
	}
	done := make(chan struct{})
	go func() { t.work.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
