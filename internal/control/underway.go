package control

import (
	"context"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// An operation of the control plane writes a row, calls the host and writes the
// row again. If its server dies in between, or the outcome stays unknown, the
// row is left in a state in between. The reconciler may take such a row at once
// when it knows that the operation is over: its server has ended, or it is this
// one and has nothing under way for the sandbox.

// underway are the sandboxes on which this process has an operation.
//
// Invariants: counts are positive; the caller of begin calls the function that it
// returns.
type underway struct {
	mu    sync.Mutex // protects the following
	count map[sandbox.ID]int
}

func newUnderway() *underway { return &underway{count: make(map[sandbox.ID]int)} }

// begin counts an operation on ids until the function that it returns is called.
func (u *underway) begin(ids ...sandbox.ID) (end func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, id := range ids {
		u.count[id]++
	}
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		for _, id := range ids {
			if u.count[id]--; u.count[id] == 0 {
				delete(u.count, id)
			}
		}
	}
}

// all returns the sandboxes with an operation.
func (u *underway) all() map[sandbox.ID]bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	out := make(map[sandbox.ID]bool, len(u.count))
	for id := range u.count {
		out[id] = true
	}
	return out
}

// operated wakes the reconciler of a host if an operation that has ended with err
// may have left its row in between: its outcome is unknown, or the host failed and
// could not be asked for the sandbox's state. It is called once the operation is
// not under way any more, or the reconciler would leave the row alone.
func (s *Service) operated(hostID string, err error) {
	if hostID == "" || err == nil {
		return
	}
	switch fault.KindOf(err) {
	case fault.HostFailed, fault.Timeout, fault.Unavailable, fault.Internal, fault.Canceled:
		s.wakes.request(hostID)
	default:
		if OutcomeUnknown(err) {
			s.wakes.request(hostID)
		}
	}
}

// move makes m in the name of this server.
func (s *Service) move(ctx context.Context, m Move) (Sandbox, bool, error) {
	m.Server = s.id
	return s.store.Move(ctx, m)
}

// operationsOver returns which of the rows are in between without an operation
// that could explain it. busy holds the results of underway.all from before and
// after the rows were read; the host must be asked afterwards, so that its answer
// is younger than the end of the operation.
func (s *Service) operationsOver(ctx context.Context, rows []Sandbox, busy map[sandbox.ID]bool) (map[sandbox.ID]bool, error) {
	over := make(map[sandbox.ID]bool)
	others := make(map[ServerID][]sandbox.ID)
	for _, row := range rows {
		switch {
		case !between(row.State) || row.Server == 0:
		case row.Server != s.id:
			others[row.Server] = append(others[row.Server], row.ID)
		case !busy[row.ID]:
			over[row.ID] = true
		}
	}
	if len(others) == 0 {
		return over, nil
	}
	asked := make([]ServerID, 0, len(others))
	for id := range others {
		asked = append(asked, id)
	}
	live, err := s.store.LiveServers(ctx, asked)
	if err != nil {
		return nil, err
	}
	for _, id := range live {
		delete(others, id)
	}
	for _, ids := range others {
		for _, id := range ids {
			over[id] = true
		}
	}
	return over, nil
}

// between reports whether state is one that only an operation explains.
func between(state sandbox.State) bool {
	switch state {
	case sandbox.Pending, sandbox.Pausing, sandbox.Resuming, sandbox.Stopping:
		return true
	default:
		return false
	}
}

// rehold is the pause before a server takes its lock again.
const rehold = time.Second

// RunPresence shows the other servers of the database that this server is live,
// until ctx ends. It calls ready once, as soon as they can see it. It returns nil.
func (s *Service) RunPresence(ctx context.Context, ready func()) error {
	var once sync.Once
	for ctx.Err() == nil {
		err := s.store.HoldServer(ctx, s.id, func() {
			s.log.Debug("present in the database", "server", s.id)
			once.Do(ready)
		})
		if ctx.Err() == nil {
			s.log.Debug("not present in the database, will try again", "error", err)
			sleep(ctx, rehold)
		}
	}
	return nil
}

// wakes are the requests for a pass over a host, by its id. One request stands
// for many.
type wakes struct {
	mu sync.Mutex // protects the following
	of map[string]chan struct{}
}

func newWakes() *wakes { return &wakes{of: make(map[string]chan struct{})} }

// channel returns the channel on which requests for a host arrive.
func (w *wakes) channel(hostID string) chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	ch := w.of[hostID]
	if ch == nil {
		ch = make(chan struct{}, 1)
		w.of[hostID] = ch
	}
	return ch
}

// request asks for a pass over a host.
func (w *wakes) request(hostID string) {
	select {
	case w.channel(hostID) <- struct{}{}:
	default:
	}
}
