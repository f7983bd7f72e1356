package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/wrenn-dev/wrenn/client"
)

// manyChildren is the size of the fork that is compared with a fork into one
// child.
const manyChildren = 5

// fork forks a new sandbox into one child and into several. Even rounds fork
// into one child first, odd rounds into several first, because the second fork
// of a parent may find warmer caches.
func (r *run) fork(ctx context.Context, i int) error {
	parent, err := r.create(ctx, r.restoreSize)
	if err != nil {
		return err
	}
	if err := r.execTrue(ctx, parent.ID); err != nil {
		return err
	}
	counts := []int{1, manyChildren}
	if i%2 == 1 {
		counts = []int{manyChildren, 1}
	}
	took := map[int]time.Duration{}
	for _, count := range counts {
		if took[count], err = r.forkInto(ctx, parent.ID, count); err != nil {
			return fmt.Errorf("fork into %d: %w", count, err)
		}
	}
	r.addTime(opForkFirst, took[1])
	r.addTime(opForkEach, (took[manyChildren]-took[1])/(manyChildren-1))
	return nil
}

// forkInto measures a fork and checks that parent and children answer. It
// deletes the children, so that the next fork starts from the same state.
func (r *run) forkInto(ctx context.Context, parent string, count int) (time.Duration, error) {
	began := time.Now()
	forked, err := r.Client.Fork(ctx, parent, client.ForkRequest{Count: count})
	took := time.Since(began)
	if err != nil {
		return 0, r.failRun(ctx, err)
	}
	family := []string{parent}
	r.mu.Lock()
	for _, child := range forked.Sandboxes {
		r.sandboxes[child.ID] = true
		family = append(family, child.ID)
	}
	r.mu.Unlock()
	if len(forked.Sandboxes) != count {
		err := fmt.Errorf("%d children came", len(forked.Sandboxes))
		for _, child := range forked.Failed {
			err = fmt.Errorf("%w; %s (%s)", err, child.Message, child.Code)
		}
		return 0, r.failRun(ctx, err)
	}
	r.add(opForkWindow, forked.PauseWindowMS)
	for _, id := range family {
		if err := r.execTrue(ctx, id); err != nil {
			return 0, err
		}
	}
	for _, child := range forked.Sandboxes {
		if err := r.destroy(ctx, child.ID); err != nil {
			return 0, err
		}
	}
	return took, nil
}

// snapshot takes a named snapshot of a new sandbox and creates another from it.
func (r *run) snapshot(ctx context.Context) error {
	origin, err := r.create(ctx, r.restoreSize)
	if err != nil {
		return err
	}
	if err := r.execTrue(ctx, origin.ID); err != nil {
		return err
	}
	began := time.Now()
	snap, err := r.Client.CreateSnapshot(ctx, origin.ID, client.SnapshotRequest{})
	took := time.Since(began)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.snapshots[snap.ID] = true
	r.mu.Unlock()
	r.addTime(opSnapshot, took)
	r.add(opSnapshotWindow, snap.PauseWindowMS)
	began = time.Now()
	sb, err := r.createAs(ctx, client.CreateRequest{SnapshotID: snap.ID})
	if err != nil {
		return err
	}
	r.addTime(opFromSnapshot, time.Since(began))
	return r.execTrue(ctx, sb.ID)
}
