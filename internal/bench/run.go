package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/client"
)

// run measures one runtime of the server. One goroutine owns it, except for the
// fields that mu protects: concurrent creates use those.
//
// Invariants: sandboxes and snapshots hold every object that the run created and
// has not deleted; between two parts both are empty, unless a delete failed.
type run struct {
	Options
	*recorder
	report      *Report
	template    string // of sandboxes that name none; known after the first
	restoreSize Size
	// poolTarget is the number of warm clones of Size that the server keeps.
	poolTarget int
	// acceleration is that of the runtime.
	acceleration string
	lines        map[string]*Line // by operation
	pools        *poolWatch       // shared with the other runs

	mu        sync.Mutex // protects the following
	sandboxes map[string]bool
	snapshots map[string]bool
	errs      []error // failures that fail the run
}

// newRun returns the measurement of one runtime. Bare boots of QEMU belong to
// microVMs.
func newRun(s *session, subject Subject, hosts []client.Host, pools *poolWatch) *run {
	r := &run{
		Options: s.Options, recorder: newRecorder(subject, s.Note), report: s.report, restoreSize: s.report.RestoreSandbox,
		acceleration: s.report.Acceleration, lines: map[string]*Line{}, pools: pools, sandboxes: map[string]bool{}, snapshots: map[string]bool{},
	}
	r.settle, r.sweep = r.awaitFullPools, r.deleteAll
	if subject == gVisor {
		r.Bare = nil
	}
	for _, rt := range s.report.Runtimes {
		if rt.Name == string(subject) {
			r.acceleration = rt.Acceleration
		}
	}
	for _, p := range hosts[0].Pools {
		if sizeOf(p) == r.Size && r.owns(p) {
			r.poolTarget = p.Target
		}
	}
	return r
}

// create creates a sandbox of the given size and registers it for deletion.
func (r *run) create(ctx context.Context, size Size) (*client.Sandbox, error) {
	return r.createAs(ctx, client.CreateRequest{VCPUs: size.VCPUs, MemoryMB: size.MemoryMB, DiskMB: size.DiskMB})
}

func (r *run) createAs(ctx context.Context, in client.CreateRequest) (*client.Sandbox, error) {
	if in.SnapshotID == "" { // a copy has the runtime of its origin
		in.Runtime = string(r.subject)
	}
	never := 0
	in.TimeoutSec, in.Metadata = &never, map[string]string{"purpose": "wrenn bench"}
	sb, err := r.Client.Create(ctx, in)
	if err != nil {
		return nil, r.failRun(ctx, fmt.Errorf("create: %w", err))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sandboxes[sb.ID] = true
	if sb.Source != nil && *sb.Source == sourcePool {
		r.pools.set(sb.LastUpdated)
	}
	return sb, nil
}

// failRun records err as a failure of the whole run, and returns it.
func (r *run) failRun(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.errs = append(r.errs, err)
	}
	return err
}

// runError returns an error if failRun was called.
func (r *run) runError() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.errs) == 0 {
		return nil
	}
	return fmt.Errorf("%d requests failed that must succeed, the first: %w", len(r.errs), r.errs[0])
}

func (r *run) destroy(ctx context.Context, id string) error {
	if err := r.Client.Destroy(ctx, id); err != nil {
		return fmt.Errorf("delete of sandbox %s: %w", id, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sandboxes, id)
	return nil
}

// cleanLimit bounds the deletion of remaining sandboxes at the end of a run.
const cleanLimit = 2 * time.Minute

// clean deletes the remaining sandboxes and snapshots, even if ctx has ended.
func (r *run) clean(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanLimit)
	defer cancel()
	return r.deleteAll(ctx)
}

// maxParallel bounds the deletes, and the creates of idle sandboxes, in flight.
const maxParallel = 4

// deleteAll deletes all sandboxes of the run, and then its snapshots.
func (r *run) deleteAll(ctx context.Context) error {
	r.mu.Lock()
	sandboxes, snapshots := keys(r.sandboxes), keys(r.snapshots)
	r.mu.Unlock()
	errs := make([]error, len(sandboxes))
	inParallel(len(sandboxes), maxParallel, func(i int) { errs[i] = r.destroy(ctx, sandboxes[i]) })
	for _, id := range snapshots {
		if err := r.Client.DeleteSnapshot(ctx, id); err != nil {
			errs = append(errs, fmt.Errorf("delete of snapshot %s: %w", id, err))
			continue
		}
		r.mu.Lock()
		delete(r.snapshots, id)
		r.mu.Unlock()
	}
	return errors.Join(errs...)
}

func keys(set map[string]bool) (out []string) {
	for key := range set {
		out = append(out, key)
	}
	return out
}

// inParallel calls do for each i from 0 to n-1, at most limit at once, and waits
// for all calls.
func inParallel(n, limit int, do func(i int)) {
	slots := make(chan struct{}, limit)
	var wg sync.WaitGroup
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			do(i)
		})
	}
	wg.Wait()
}
