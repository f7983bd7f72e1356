package bench

import (
	"context"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"time"
)

// round implements other.
func (s *runscSubject) round(ctx context.Context) {
	s.attempt(ctx, "a run", s.cold)
	s.attempt(ctx, "the life of a restored container", s.life)
	s.attempt(ctx, "Python", s.python)
	s.attempt(ctx, "fork", s.fork)
}

func (s *runscSubject) cold(ctx context.Context) error {
	return s.timed(opBareBoot, func() error {
		name, err := s.start(ctx, "run")
		if err != nil {
			return err
		}
		_, err = s.exec(ctx, name, nil, "true")
		return err
	})
}

func (s *runscSubject) life(ctx context.Context) error {
	began := time.Now()
	name, err := s.restore(ctx, s.template())
	if err != nil {
		return err
	}
	s.addTime(opRestore, time.Since(began))
	if _, err := s.exec(ctx, name, nil, "true"); err != nil {
		return err
	}
	s.addTime(opRestoreExec, time.Since(began))
	for range execsPerRound {
		if err := s.timed(opExec, func() error { _, err := s.exec(ctx, name, nil, "true"); return err }); err != nil {
			return err
		}
	}
	mib, err := s.pss(name)
	if err != nil {
		return err
	}
	s.add(opMemory, mib)
	return s.pauseAndEnd(ctx, name)
}

// pauseAndEnd measures a checkpoint that ends a container, its restore, transfers and
// its end.
func (s *runscSubject) pauseAndEnd(ctx context.Context, name string) error {
	image := filepath.Join(s.dir, "paused")
	if err := s.timed(opPause, func() error { return s.checkpoint(ctx, name, image) }); err != nil {
		return err
	}
	if err := s.delete(name); err != nil {
		return err
	}
	began := time.Now()
	name, err := s.restore(ctx, image)
	if err != nil {
		return err
	}
	s.addTime(opResume, time.Since(began))
	if s.FileBytes > 0 {
		if err := s.transfer(ctx, name); err != nil {
			return err
		}
	}
	return s.timed(opDelete, func() error { return s.delete(name) })
}

func (s *runscSubject) transfer(ctx context.Context, name string) error {
	return s.copyFile(s.FileBytes,
		func(in io.Reader) error { _, err := s.exec(ctx, name, in, "sh", "-c", "cat >"+guestFile); return err },
		func(out io.Writer) error { return s.command(ctx, nil, out, "exec", name, "cat", guestFile) })
}

// copyFile measures a write and a read of a file, and compares the contents.
func (r *recorder) copyFile(size int64, write func(io.Reader) error, read func(io.Writer) error) error {
	sent, got := crc32.NewIEEE(), crc32.NewIEEE()
	rate := func(began time.Time) float64 { return float64(size) / (1 << 20) / time.Since(began).Seconds() }
	began := time.Now()
	if err := write(io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{1}), size), sent)); err != nil {
		return err
	}
	r.add(opUpload, rate(began))
	began = time.Now()
	if err := read(got); err != nil {
		return err
	}
	r.add(opDownload, rate(began))
	if sent.Sum32() != got.Sum32() {
		return errors.New("the file came back changed")
	}
	return nil
}

func (s *runscSubject) python(ctx context.Context) error {
	name, err := s.restore(ctx, s.template())
	if err != nil {
		return err
	}
	run := func(args []string) (string, error) {
		return s.exec(ctx, name, nil, append([]string{"python3"}, args...)...)
	}
	if err := s.timed(opPython, func() error { _, err := run(pythonArgs); return err }); err != nil {
		return err
	}
	out, err := run(sumArgs)
	if err != nil {
		return err
	}
	took, err := sumTime(out)
	if err == nil {
		s.addTime(opSum, took)
	}
	return err
}

func (s *runscSubject) fork(ctx context.Context) error {
	parent, err := s.restore(ctx, s.template())
	if err != nil {
		return err
	}
	if _, err := s.exec(ctx, parent, nil, "true"); err != nil {
		return err
	}
	image := filepath.Join(s.dir, "forked")
	err = s.timed(opForkFirst, func() error {
		if err := s.checkpoint(ctx, parent, image, "--leave-running"); err != nil {
			return err
		}
		_, err := s.restore(ctx, image)
		return err
	})
	if err != nil {
		return err
	}
	return s.timed(opForkEach, func() error { _, err := s.restore(ctx, image); return err })
}

// burst implements other.
func (s *runscSubject) burst(ctx context.Context) {
	s.attempt(ctx, "burst of restores", func(ctx context.Context) error {
		names := make([]string, s.Burst)
		for i := range names {
			names[i] = s.name()
		}
		errs := make([]error, len(names))
		return s.timed(opBurstLast, func() error {
			var wg sync.WaitGroup
			for i, name := range names {
				wg.Go(func() { errs[i] = s.startAs(ctx, name, "restore", "--image-path="+s.template()) })
			}
			wg.Wait()
			return errors.Join(errs...)
		})
	})
}
