package bench

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/client"
)

// volley is many creates, whatever they come from. An empty name is not
// measured.
type volley struct {
	shape  Shape
	gap    time.Duration // between the begin of one and the next
	each   string        // one create
	all    string        // from the first begin until the last is there
	toExec string        // one create until true has returned
}

// shot is one create of a volley.
type shot struct {
	sb              *client.Sandbox
	created, toExec time.Duration
	err             error
}

// volleys measures the shapes in which many creates come together.
func (r *run) volleys(ctx context.Context) {
	if r.Burst == 0 {
		return
	}
	fire := func(v volley) {
		r.attempt(ctx, string(v.shape)+" creates", func(ctx context.Context) error { return r.volley(ctx, v) })
	}
	fire(volley{shape: Staggered, gap: r.Stagger, each: opStaggered, toExec: opStaggeredExec})
	for range r.Waves {
		fire(volley{shape: Burst, each: opBurst, all: opBurstLast})
	}
	// In a wave of its own: commands would slow down the creates beside them.
	fire(volley{shape: Burst, toExec: opBurstExec})
}

// volley makes one. Its samples count only if all creates succeeded.
func (r *run) volley(ctx context.Context, v volley) error {
	began := time.Now()
	shots, err := r.shoot(ctx, v)
	if err != nil {
		return err
	}
	took := time.Since(began)
	told := Volley{Shape: v.shape, N: len(shots), Kept: r.kept, ToExec: v.toExec != "", TookMS: ms(took), Load1: load1()}
	for _, s := range shots {
		switch {
		case s.err != nil:
			told.Failed++
			err = s.err
		case s.sb.Source != nil && *s.sb.Source == sourcePool:
			told.FromPool++
		}
	}
	r.report.Volleys = append(r.report.Volleys, told)
	if told.Failed > 0 {
		return fmt.Errorf("%d of %d failed: %w", told.Failed, told.N, err)
	}
	for _, s := range shots {
		r.addNamed(v.each, s.created)
		r.addNamed(v.toExec, s.toExec)
	}
	r.addNamed(v.all, took)
	r.Note("%s: %d sandboxes in %.1f s, %d from the pool of %d", v.shape, told.N, told.TookMS/1000, told.FromPool, told.Kept)
	return nil
}

func (r *run) addNamed(name string, took time.Duration) {
	if name != "" {
		r.addTime(name, took)
	}
}

// shoot begins the creates, and returns when all have ended.
func (r *run) shoot(ctx context.Context, v volley) ([]shot, error) {
	shots := make([]shot, r.Burst)
	var wg sync.WaitGroup
	defer wg.Wait()
	next := time.NewTimer(0)
	defer next.Stop()
	for i := range shots {
		if v.gap > 0 {
			select {
			case <-next.C:
				next.Reset(v.gap)
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		wg.Go(func() { shots[i] = r.create1(ctx, v) })
	}
	wg.Wait()
	return shots, ctx.Err()
}

func (r *run) create1(ctx context.Context, v volley) shot {
	began := time.Now()
	sb, err := r.create(ctx, r.Size)
	s := shot{sb: sb, created: time.Since(began), err: err}
	if err == nil && v.toExec != "" {
		s.err = r.execTrue(ctx, sb.ID)
		s.toExec = time.Since(began)
	}
	return s
}
