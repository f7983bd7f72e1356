package rest

import (
	"context"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
)

// fakeAnswers is Answers in memory, with leases by the clock.
type fakeAnswers struct {
	mu    sync.Mutex
	rows  map[control.AnswerKey]*fakeAnswer
	trims int
	err   error
}

type fakeAnswer struct {
	control.Answer
	leasedUntil time.Time
}

func (f *fakeAnswers) BeginAnswer(_ context.Context, key control.AnswerKey, sum [32]byte, lease, _ time.Duration) (control.Answer, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return control.Answer{}, false, f.err
	}
	if row := f.rows[key]; row != nil {
		a := row.Answer
		a.Abandoned = a.Status == 0 && time.Now().After(row.leasedUntil)
		return a, false, nil
	}
	if f.rows == nil {
		f.rows = make(map[control.AnswerKey]*fakeAnswer)
	}
	f.rows[key] = &fakeAnswer{control.Answer{Fingerprint: sum}, time.Now().Add(lease)}
	return f.rows[key].Answer, true, nil
}

func (f *fakeAnswers) RenewAnswer(_ context.Context, key control.AnswerKey, lease time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if row := f.rows[key]; row != nil {
		row.leasedUntil = time.Now().Add(lease)
	}
	return nil
}

func (f *fakeAnswers) KeepAnswer(_ context.Context, key control.AnswerKey, a control.Answer) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rows[key].Answer = a
	return nil
}

func (f *fakeAnswers) DropAnswer(_ context.Context, key control.AnswerKey) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.rows, key)
	return nil
}

func (f *fakeAnswers) TrimAnswers(context.Context, int, int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.trims++
	return nil
}

// abandon makes every request under way one of a server that stopped.
func (f *fakeAnswers) abandon() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, row := range f.rows {
		row.leasedUntil = time.Time{}
	}
}
