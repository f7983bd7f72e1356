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

	// maxResumes is how often a server carries on a build of its own that nothing carries out,
	// because an error or a panic ended its goroutine.
	maxResumes = 3
)

// expiry says which rows the maintenance removes. A waiting build waits as long as its
// uploads are kept. A snapshot takes minutes at most until its row is written.
var expiry = Expiry{Keep: 10, Untagged: 7 * 24 * time.Hour, Waiting: blobAge, Stray: time.Hour}

// Service implements API. It is safe for concurrent use.
//
// Builds run in goroutines that Run owns. Without Run a build that was started waits.
// Any number of Services may share a store: a build belongs to the server that started
// it, and when that has ended another one continues the build.
type Service struct {
	Config
	blobs *blobs
	slots chan struct{} // one element for each build under way

	mu      sync.Mutex // protects the following
	running map[BuildID]*job
	resumed map[BuildID]int // how often a build of this server was carried on
	queue   []*job
	wake    chan struct{}
	changed chan struct{} // closed and replaced when a log or a build has changed
}

var _ API = (*Service)(nil)

// job is a build that this server carries out. Service.mu protects resumed and started
// until it is in the queue; they are constant afterwards.
type job struct {
	id      BuildID
	inputs  Inputs
	started bool // the store calls the build Building
	// resumed says in a clause why the build is carried on; empty is a new build.
	resumed string
	// end ends the build with the reason that is its cause.
	end context.CancelCauseFunc
	ctx context.Context
	// logged is closed when the log of the build is complete.
	logged chan struct{}
	// imports is the import under way; Service.mu protects it.
	imports *Import
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
		running: map[BuildID]*job{}, resumed: map[BuildID]int{}, wake: make(chan struct{}, 1), changed: make(chan struct{}),
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

// reserve makes a build one of this server before the store says so, so that the maintenance
// does not carry it on. It returns nil if the build is here already.
func (s *Service) reserve(id BuildID, in Inputs) *job {
	ctx, end := context.WithCancelCause(context.Background())
	j := &job{id: id, inputs: in, ctx: ctx, end: end, logged: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[id] != nil {
		end(nil)
		return nil
	}
	s.running[id] = j
	return j
}

// enqueue hands a reserved build to Run. Its plan, which can have megabytes, is read from the
// store at its turn, so that builds that wait hold no memory for it.
func (s *Service) enqueue(j *job, resumed string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j.resumed, j.started = resumed, true
	s.queue = append(s.queue, j)
	select {
	case s.wake <- struct{}{}:
	default:
	}
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

// has reports whether a build is here.
func (s *Service) has(id BuildID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running[id] != nil
}

// startedHere returns the builds here that the store calls Building, as far as this server
// knows.
func (s *Service) startedHere() []BuildID {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []BuildID
	for id, j := range s.running {
		if j.started {
			ids = append(ids, id)
		}
	}
	return ids
}

// writesLog reports whether a build here may still write to its log.
func (s *Service) writesLog(id BuildID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.running[id]
	if j == nil {
		return false
	}
	select {
	case <-j.logged:
		return false
	default:
		return true
	}
}

// setImport tells the followers of a build how far an import is.
func (s *Service) setImport(j *job, i *Import) {
	s.mu.Lock()
	j.imports = i
	s.mu.Unlock()
	s.notify()
}

// importOf returns the import under way of a build here.
func (s *Service) importOf(id BuildID) *Import {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j := s.running[id]; j != nil {
		return j.imports
	}
	return nil
}

// perform carries out one build when its turn has come. Its log is complete before its
// machines are destroyed, so that followers need not wait for that.
func (s *Service) perform(ctx context.Context, j *job) {
	defer s.forget(j)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(j.ctx, func() { cancel(context.Cause(j.ctx)) })()
	b := newBuilder(s, j)
	defer b.cleanUp()
	defer s.closeLog(b)
	defer b.leave()
	if err := fault.Caught(func() error { return b.perform(ctx) }); err != nil {
		s.Log.Warn("a build of a template did not end well", "build", j.id, "err", err)
	}
}

// closeLog writes the rest of the log of b and tells its followers.
func (s *Service) closeLog(b *builder) {
	b.log.close()
	s.mu.Lock()
	close(b.job.logged)
	s.mu.Unlock()
	s.notify()
}

// forget removes a build that has ended here.
func (s *Service) forget(j *job) {
	j.end(nil)
	s.mu.Lock()
	delete(s.running, j.id)
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
