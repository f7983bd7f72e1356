package bench

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/client"
)

// execsPerRound is how often each sandbox is asked for a warm exec.
const execsPerRound = 3

// guestFile is where the file goes in the sandbox.
const guestFile = "/var/tmp/bench"

// first takes the making of a template out of the rounds. What it takes is told
// by itself: only the server knows whether it had one.
func (r *run) first(ctx context.Context) error {
	began := time.Now()
	id, err := r.create(ctx)
	if err != nil {
		return err
	}
	r.addTime(opFirst, began)
	r.Note("the first create took %.1f s", time.Since(began).Seconds())
	return r.destroy(ctx, id)
}

// round takes one sandbox through its life. The bare boot comes first in even
// rounds and last in odd ones, so that neither always finds the machine warmer.
func (r *run) round(ctx context.Context, i int) error {
	began := time.Now()
	if i%2 == 0 {
		if err := r.bareBoot(ctx); err != nil {
			return err
		}
	}
	id, err := r.boot(ctx)
	if err != nil {
		return err
	}
	if err := r.use(ctx, id); err != nil {
		return err
	}
	if i%2 == 1 {
		if err := r.bareBoot(ctx); err != nil {
			return err
		}
	}
	r.report.Machine.RoundLoad1 = append(r.report.Machine.RoundLoad1, load1())
	r.Note("round %d of %d took %.1f s", i+1, r.Rounds, time.Since(began).Seconds())
	return nil
}

// boot measures from nothing to the first command.
func (r *run) boot(ctx context.Context) (id string, err error) {
	began := time.Now()
	id, err = r.create(ctx)
	if err != nil {
		return "", fmt.Errorf("create: %w", err)
	}
	r.addTime(opCreate, began)
	if err := r.execTrue(ctx, id); err != nil {
		return "", err
	}
	r.addTime(opToExec, began)
	return id, nil
}

// use measures what is done with a sandbox that is there, to its end. The file
// comes last: its pages would make a pause longer.
func (r *run) use(ctx context.Context, id string) error {
	for range execsPerRound {
		began := time.Now()
		if err := r.execTrue(ctx, id); err != nil {
			return err
		}
		r.addTime(opExec, began)
	}
	if mib, err := vmmMemory(id); err == nil {
		r.add(opMemory, mib)
	} else if len(r.report.Missing) == 0 {
		r.report.Missing = append(r.report.Missing, "memory per VM: "+err.Error())
	}
	began := time.Now()
	if _, err := r.Client.Pause(ctx, id); err != nil {
		return fmt.Errorf("pause: %w", err)
	}
	r.addTime(opPause, began)
	began = time.Now()
	if _, err := r.Client.Resume(ctx, id); err != nil {
		return fmt.Errorf("resume: %w", err)
	}
	r.addTime(opResume, began)
	if r.FileBytes > 0 {
		if err := r.transfer(ctx, id); err != nil {
			return err
		}
	}
	began = time.Now()
	if err := r.destroy(ctx, id); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	r.addTime(opDelete, began)
	return nil
}

func (r *run) execTrue(ctx context.Context, id string) error {
	res, err := r.Client.Exec(ctx, id, client.ExecRequest{Cmd: "true"})
	if err != nil {
		return fmt.Errorf("exec: %w", err)
	}
	if res.ExitCode != 0 {
		return fmt.Errorf("exec: true ended with %d", res.ExitCode)
	}
	return nil
}

// transfer sends a file in and fetches it again, and checks that it is the same.
func (r *run) transfer(ctx context.Context, id string) error {
	sent := crc32.NewIEEE()
	// Neither compressible nor sparse, and cheap to make.
	content := io.LimitReader(rand.NewChaCha8([32]byte{1}), r.FileBytes)
	began := time.Now()
	err := r.Client.WriteFile(ctx, id, client.Upload{Path: guestFile, Size: r.FileBytes}, io.TeeReader(content, sent))
	if err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	r.add(opUpload, r.rate(began))
	began = time.Now()
	file, err := r.Client.ReadFile(ctx, id, guestFile, "")
	if err != nil {
		return fmt.Errorf("download: %w", err)
	}
	defer file.Body.Close()
	got := crc32.NewIEEE()
	n, err := io.Copy(got, file.Body)
	if err != nil {
		return fmt.Errorf("download: %w", err)
	}
	r.add(opDownload, r.rate(began))
	if n != r.FileBytes || got.Sum32() != sent.Sum32() {
		return errors.New("the file that came out is not the one that went in")
	}
	return nil
}

// rate is the throughput of a file since began.
func (r *run) rate(began time.Time) float64 {
	return float64(r.FileBytes) / (1 << 20) / time.Since(began).Seconds()
}

// bareBoot tries once more, and counts that, as Wrenn does: under emulation a
// boot in some hundreds dies.
func (r *run) bareBoot(ctx context.Context) error {
	if r.Bare == nil {
		return nil
	}
	took, err := r.Bare.boot(ctx, r.report.Acceleration, r.Size)
	if err != nil && ctx.Err() == nil {
		r.Note("a bare boot failed and is tried again: %v", err)
		r.report.BareRetries++
		took, err = r.Bare.boot(ctx, r.report.Acceleration, r.Size)
	}
	if err != nil {
		return fmt.Errorf("bare boot: %w", err)
	}
	r.report.BareArgs = r.Bare.shownArgs(r.report.Acceleration, r.Size)
	r.add(opBareBoot, ms(took))
	return nil
}

// wave creates Burst sandboxes at once and destroys them one by one.
func (r *run) wave(ctx context.Context, i int) error {
	type result struct {
		id   string
		took time.Duration
		err  error
	}
	results := make([]result, r.Burst)
	began := time.Now()
	var wg sync.WaitGroup
	for n := range results {
		wg.Go(func() {
			id, err := r.create(ctx)
			results[n] = result{id: id, took: time.Since(began), err: err}
		})
	}
	wg.Wait()
	all := time.Since(began)
	for _, res := range results {
		if res.err != nil {
			return res.err
		}
		r.add(opBurst, ms(res.took))
		if err := r.destroy(ctx, res.id); err != nil {
			return fmt.Errorf("delete: %w", err)
		}
	}
	r.add(opBurstLast, ms(all))
	r.Note("burst %d of %d: %d sandboxes in %.1f s", i+1, r.Waves, r.Burst, all.Seconds())
	return nil
}
