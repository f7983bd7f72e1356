package templates

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Config holds the dependencies and the settings of a Service. Store, Machines, Dir and
// Log are required; the others have defaults.
type Config struct {
	Store    Store
	Machines Machines
	// Server identifies this server process among those that share the store.
	Server control.ServerID
	// Dir is the directory of uploads, which is made.
	Dir string
	// MaxBuilds is how many builds this server carries out at once; 0 is 2. The
	// others wait.
	MaxBuilds int
	// MaxLayers and MaxLayerBytes bound the layers that are kept; 0 is 100 and 20 GiB. A
	// negative MaxLayers keeps none.
	MaxLayers     int
	MaxLayerBytes uint64
	Log           *slog.Logger
}

const (
	defaultMaxBuilds     = 2
	defaultMaxLayers     = 100
	defaultMaxLayerBytes = 20 << 30

	// keepBuilds and keepFor are which builds without a tag keep their snapshot.
	keepBuilds = 10
	keepFor    = 7 * 24 * time.Hour
)

// Service implements API. It is safe for concurrent use.
//
// Builds run in goroutines that Run owns. Without Run a build that was started waits.
// Any number of Services may share a store: a build belongs to the server that started
// it, and when that has ended another one continues the build.
type Service struct {
	Config
	blobs *blobs
	slots chan struct{}

	mu      sync.Mutex // protects the following
	running map[BuildID]*job
	queue   []*job
	wake    chan struct{}
	changed chan struct{} // closed and replaced when a log or a build has changed
}

var _ API = (*Service)(nil)

// job is a build that this server carries out.
type job struct {
	build  Build
	orphan bool // another server began it
	run    Orphan
	inputs Inputs
	// end ends the build with the reason that is its cause.
	end context.CancelCauseFunc
	ctx context.Context
}

// New returns a Service.
func New(c Config) (*Service, error) {
	if c.Store == nil || c.Machines == nil || c.Log == nil || c.Dir == "" {
		return nil, fault.New(fault.Internal, "missing_dependency", "templates.New needs a store, machines, a directory and a logger")
	}
	if c.MaxBuilds < 0 {
		return nil, fault.New(fault.Invalid, "invalid_config", "the number of builds must not be negative")
	}
	if c.MaxBuilds == 0 {
		c.MaxBuilds = defaultMaxBuilds
	}
	if c.MaxLayers == 0 {
		c.MaxLayers = defaultMaxLayers
	}
	if c.MaxLayerBytes == 0 {
		c.MaxLayerBytes = defaultMaxLayerBytes
	}
	b, err := openBlobs(c.Dir)
	if err != nil {
		return nil, err
	}
	return &Service{
		Config: c, blobs: b, slots: make(chan struct{}, c.MaxBuilds),
		running: map[BuildID]*job{}, wake: make(chan struct{}, 1), changed: make(chan struct{}),
	}, nil
}

// Run carries out builds until ctx ends, then waits for their goroutines and returns nil.
// A build that is interrupted continues under the next server. The server must be live in the
// store, so that no other one takes its builds.
func (s *Service) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { s.maintain(ctx) })
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		}
		for _, j := range s.take() {
			wg.Go(func() { s.perform(ctx, j) })
		}
	}
}

// enqueue hands a build to Run. It reports false if the build is here already.
func (s *Service) enqueue(run Orphan, in Inputs, orphan bool) bool {
	ctx, end := context.WithCancelCause(context.Background())
	j := &job{build: run.Build, run: run, inputs: in, orphan: orphan, ctx: ctx, end: end}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[run.Build.ID] != nil {
		end(nil)
		return false
	}
	s.running[run.Build.ID] = j
	s.queue = append(s.queue, j)
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return true
}

// take empties the queue.
func (s *Service) take() []*job {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queue
	s.queue = nil
	return q
}

// interrupt ends the builds here, if they run here, for cause.
func (s *Service) interrupt(cause error, ids ...BuildID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		if j := s.running[id]; j != nil {
			j.end(cause)
		}
	}
}

// has reports whether a build is carried out here.
func (s *Service) has(id BuildID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running[id] != nil
}

// perform carries out one build when its turn has come.
func (s *Service) perform(ctx context.Context, j *job) {
	defer s.forget(j)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(j.ctx, func() { cancel(context.Cause(j.ctx)) })()
	log := s.Log.With("build", j.build.ID)
	b := newBuilder(s, j)
	defer b.log.close()
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return
	}
	if err := fault.Caught(func() error { return b.perform(ctx) }); err != nil {
		log.Warn("a build of a template did not end well", "err", err)
	}
}

// forget removes a build that has ended here.
func (s *Service) forget(j *job) {
	j.end(nil)
	s.mu.Lock()
	delete(s.running, j.build.ID)
	s.mu.Unlock()
	s.notify()
}

// notify wakes the followers of logs.
func (s *Service) notify() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

// change returns a channel that is closed at the next change.
func (s *Service) change() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}
