package bench

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/client"
)

// batch describes creates that are requested together. A measurement with an
// empty name is left out.
type batch struct {
	shape  Shape
	gap    time.Duration // between the starts of two creates
	each   string        // one create
	all    string        // from the first start until the last answer
	toExec string        // one create until true has returned
}

// batchRequest is the result of one create of a batch.
type batchRequest struct {
	sb              *client.Sandbox
	created, toExec time.Duration
	err             error
}

// batch measures one batch. Its samples count only if all creates succeeded.
func (r *run) batch(ctx context.Context, b batch) error {
	began := time.Now()
	requests, err := r.send(ctx, b)
	if err != nil {
		return err
	}
	took := time.Since(began)
	report := Batch{Subject: r.subject, Shape: b.shape, N: len(requests), PoolTarget: r.poolTarget, ToExec: b.toExec != "", TookMS: ms(took), Load1: load1()}
	for _, s := range requests {
		switch {
		case s.err != nil:
			report.Failed++
			err = s.err
		case s.sb.Source != nil && *s.sb.Source == sourcePool:
			report.FromPool++
		}
	}
	r.report.Batches = append(r.report.Batches, report)
	if report.Failed > 0 {
		return fmt.Errorf("%d of %d failed: %w", report.Failed, report.N, err)
	}
	for _, s := range requests {
		r.addNamed(b.each, s.created)
		r.addNamed(b.toExec, s.toExec)
	}
	r.addNamed(b.all, took)
	r.Note("%s: %d sandboxes in %.1f s, %d from the pool of %d", r.name(string(b.shape)), report.N, report.TookMS/1000, report.FromPool, report.PoolTarget)
	return nil
}

func (r *run) addNamed(name string, took time.Duration) {
	if name != "" {
		r.addTime(name, took)
	}
}

// send starts the creates, and returns when all have ended.
func (r *run) send(ctx context.Context, b batch) ([]batchRequest, error) {
	requests := make([]batchRequest, r.Burst)
	var wg sync.WaitGroup
	defer wg.Wait()
	next := time.NewTimer(0)
	defer next.Stop()
	for i := range requests {
		if b.gap > 0 {
			select {
			case <-next.C:
				next.Reset(b.gap)
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		wg.Go(func() { requests[i] = r.request(ctx, b) })
	}
	wg.Wait()
	return requests, ctx.Err()
}

func (r *run) request(ctx context.Context, b batch) batchRequest {
	began := time.Now()
	sb, err := r.create(ctx, r.Size)
	s := batchRequest{sb: sb, created: time.Since(began), err: err}
	if err == nil && b.toExec != "" {
		s.err = r.execTrue(ctx, sb.ID)
		s.toExec = time.Since(began)
	}
	return s
}
