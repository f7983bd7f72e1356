package sim

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/memstore"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// The phases of a history.
const (
	faultsFor = 4 * time.Minute // clients and faults act
	lateFor   = time.Minute     // the longest delay of a message
	// convergeFor bounds the time in which rows and hosts must converge: the longest
	// operation (a fork), the grace period of its snapshot, and some passes.
	convergeFor = 10 * time.Minute
)

func config() control.Config {
	cfg := control.DefaultConfig()
	cfg.CreateTimeout, cfg.PauseTimeout, cfg.ResumeTimeout = time.Minute, time.Minute, time.Minute
	cfg.DestroyTimeout, cfg.ForkTimeout = 20*time.Second, 2*time.Minute
	cfg.Grace, cfg.ReconcileInterval = 30*time.Second, 15*time.Second
	cfg.Retention = 20 * time.Minute
	cfg.VCPUsPerCPU = 1
	return cfg
}

// world is one history.
type world struct {
	seed    uint64
	start   time.Time
	store   *memstore.Store
	hosts   []*simHost
	servers []*server
	// quiet is set once faults have ended.
	quiet atomic.Bool
	// away is the time until which the database does not answer, in ns since start.
	away atomic.Int64
	// dbClock is how far the database's clock is off.
	dbClock atomic.Int64
	// statement makes a statement and its observation one.
	statement sync.Mutex
	// work counts goroutines that end by themselves.
	work sync.WaitGroup

	mu     sync.Mutex // protects the following
	draws  map[string]int
	names  map[string]string // of sandboxes and snapshots, by id
	known  map[sandbox.ID]*record
	order  []sandbox.ID // of known
	snaps  []sandbox.SnapshotID
	trace  []string
	failed string // the first violation
	counts map[string]int
}

// record is the model of one sandbox.
type record struct {
	id sandbox.ID
	// idle: its row holds no capacity that its state suggests, because it went
	// from paused to stopping.
	idle bool
	// last is the row as it was last seen; nil when it is gone.
	last *control.Sandbox
	// acknowledged: a client was told that it runs.
	acknowledged bool
	// destroying: a client asked for its end. destroyed: and was told of it.
	destroying, destroyed bool
	// mayEnd: its VM was ended from outside.
	mayEnd bool
}

func newWorld(seed uint64) *world {
	w := &world{
		seed: seed, start: time.Now(), draws: make(map[string]int), names: make(map[string]string),
		known: make(map[sandbox.ID]*record), counts: make(map[string]int),
	}
	w.store = memstore.New(func() time.Time { return time.Now().Add(time.Duration(w.dbClock.Load())) })
	r := w.draw("shape")
	for i := range 1 + r.IntN(2) {
		w.hosts = append(w.hosts, newSimHost(w, fmt.Sprintf("h%d", i+1)))
	}
	for i := range 1 + r.IntN(2) {
		w.servers = append(w.servers, &server{w: w, slot: i})
	}
	return w
}

// draw returns a source of random numbers that depends on the seed, on key, and
// on how often key was drawn. So a decision does not depend on the order in which
// goroutines of one instant run.
func (w *world) draw(key string) *rand.Rand {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.draws[key]
	w.draws[key]++
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %d", key, n)
	return rand.New(rand.NewPCG(w.seed, h.Sum64()))
}

// between returns a duration from lo to hi, odd to the nanosecond so that no two
// things happen at one instant.
func between(r *rand.Rand, lo, hi time.Duration) time.Duration {
	return lo + time.Duration(r.Int64N(int64(hi-lo)+1))
}

// nameOf returns a name of an id that is the same in each run of the history.
func (w *world) nameOf(id string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.nameLocked(id)
}

func (w *world) nameLocked(id string) string {
	if id == "" {
		return ""
	}
	if w.names[id] == "" {
		w.names[id] = fmt.Sprintf("#%d", len(w.names)+1)
	}
	return w.names[id]
}

// note adds a line to the trace.
func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.noteLocked(format, args...)
}

func (w *world) noteLocked(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf("%12.6f  ", time.Since(w.start).Seconds())+fmt.Sprintf(format, args...))
}

// violated records the first violation of an invariant. The caller holds mu.
func (w *world) violated(format string, args ...any) {
	w.noteLocked("VIOLATION "+format, args...)
	if w.failed == "" {
		w.failed = fmt.Sprintf(format, args...)
	}
}

// sleep returns after d, or with an error when ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// server is one slot in which control planes run, one after the other.
type server struct {
	w    *world
	slot int
	runs int

	mu  sync.Mutex // protects the following
	now *process   // nil while none runs
}

// process is one run of a control plane.
type process struct {
	*control.Service
	w    *world
	name string
	// dead ends when the process is killed: then none of its calls does anything.
	dead context.Context
	kill context.CancelFunc
	// serving: it takes requests.
	serving atomic.Bool
	// loops ends with the process's loops.
	loops sync.WaitGroup
}

// startProcess starts a control plane, as the command does.
func (s *server) startProcess() {
	s.runs++
	p := &process{w: s.w, name: fmt.Sprintf("c%d.%d", s.slot+1, s.runs)}
	p.dead, p.kill = context.WithCancel(context.Background())
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	if s.w.seed == traced {
		log = slog.New(slog.NewTextHandler(&traceWriter{p}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	service, err := control.New(config(), &faultyStore{Store: s.w.store, p: p}, newFleet(p), log)
	if err != nil {
		panic(err)
	}
	p.Service = service
	s.w.note("%s starts", p.name)
	// Like the command, the process serves once the database shows it as live.
	p.loops.Go(func() { _ = service.Run(p.dead, func() { p.serving.Store(true) }) })
	s.mu.Lock()
	s.now = p
	s.mu.Unlock()
}

// stopProcess kills the process.
func (s *server) stopProcess() {
	s.mu.Lock()
	p := s.now
	s.now = nil
	s.mu.Unlock()
	if p == nil {
		return
	}
	s.w.note("%s is killed", p.name)
	p.kill()
	s.w.work.Go(p.loops.Wait) // its calls do nothing any more
}

// any returns a process that runs, or nil.
func (w *world) any(r *rand.Rand) *process {
	first := r.IntN(len(w.servers))
	for i := range w.servers {
		s := w.servers[(first+i)%len(w.servers)]
		s.mu.Lock()
		p := s.now
		s.mu.Unlock()
		if p != nil && p.serving.Load() {
			return p
		}
	}
	return nil
}

// traceWriter writes the log of a process to the trace.
type traceWriter struct{ p *process }

// Write implements io.Writer.
func (t *traceWriter) Write(b []byte) (int, error) {
	line := strings.TrimSpace(string(b))
	t.p.w.mu.Lock()
	defer t.p.w.mu.Unlock()
	for id, name := range t.p.w.names {
		line = strings.ReplaceAll(line, id, name)
	}
	_, line, _ = strings.Cut(line, "level=")
	t.p.w.noteLocked("%s log %s", t.p.name, line)
	return len(b), nil
}
