package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/postgres/db"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// BeginAnswer claims key for a request with this fingerprint. begun is true
// for the one caller that is to do the request; it renews the lease until it
// calls KeepAnswer or DropAnswer. Everybody else gets the answer as far as it
// is known. The claim, and later the answer, is kept for the time keep.
func (s *Store) BeginAnswer(ctx context.Context, key control.AnswerKey, fingerprint [32]byte, lease, keep time.Duration) (a control.Answer, begun bool, err error) {
	for {
		n, err := s.q.BeginAnswer(ctx, db.BeginAnswerParams{
			Principal: key.Principal, Key: key.Key, Fingerprint: fingerprint[:],
			LeaseSec: lease.Seconds(), KeepSec: keep.Seconds(),
		})
		if err != nil || n == 1 {
			return control.Answer{Fingerprint: fingerprint}, n == 1, faultOf(err)
		}
		row, err := s.q.GetAnswer(ctx, db.GetAnswerParams{Principal: key.Principal, Key: key.Key})
		if errors.Is(err, pgx.ErrNoRows) {
			continue // dropped in between
		}
		if err != nil {
			return control.Answer{}, false, faultOf(err)
		}
		a, err := fromAnswer(row)
		return a, false, err
	}
}

func fromAnswer(row db.GetAnswerRow) (control.Answer, error) {
	a := control.Answer{Body: row.Body}
	copy(a.Fingerprint[:], row.Fingerprint)
	if row.Status == nil {
		a.Abandoned = row.LeaseOver
		return a, nil
	}
	a.Status = int(*row.Status)
	if err := json.Unmarshal(row.Header, &a.Header); err != nil {
		return a, fault.Wrap(err, fault.Internal, "database_error", "the kept answer cannot be read")
	}
	return a, nil
}

// RenewAnswer prolongs the lease of a request under way.
func (s *Store) RenewAnswer(ctx context.Context, key control.AnswerKey, lease time.Duration) error {
	return faultOf(s.q.RenewAnswer(ctx, db.RenewAnswerParams{Principal: key.Principal, Key: key.Key, LeaseSec: lease.Seconds()}))
}

// The pause between two attempts to keep an answer.
const (
	minKeepRetry = 50 * time.Millisecond
	maxKeepRetry = time.Second
)

// KeepAnswer stores the answer of a request in flight. It tries again until ctx
// ends while the database is unavailable: without the answer, a client that
// repeats the request learns only that its outcome is unknown.
func (s *Store) KeepAnswer(ctx context.Context, key control.AnswerKey, a control.Answer) error {
	header, err := metadataJSON(a.Header)
	if err != nil {
		return err
	}
	params := db.KeepAnswerParams{
		Principal: key.Principal, Key: key.Key, Status: int32(a.Status), Header: header, Body: a.Body,
	}
	for pause := minKeepRetry; ; pause = min(2*pause, maxKeepRetry) {
		// An attempt whose reply was lost has stored the answer: the next one changes nothing.
		err := faultOf(s.q.KeepAnswer(ctx, params))
		if fault.ReasonOf(err) != reasonUnavailable {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
	}
}

// DropAnswer frees the key of a request under way, which did nothing.
func (s *Store) DropAnswer(ctx context.Context, key control.AnswerKey) error {
	return faultOf(s.q.DropAnswer(ctx, db.DropAnswerParams{Principal: key.Principal, Key: key.Key}))
}

// TrimAnswers deletes expired answers, and the oldest beyond maxRows answers
// or maxBytes bytes of bodies.
func (s *Store) TrimAnswers(ctx context.Context, maxRows int, maxBytes int64) error {
	return faultOf(s.q.TrimAnswers(ctx, db.TrimAnswersParams{MaxRows: int64(maxRows), MaxBytes: maxBytes}))
}
