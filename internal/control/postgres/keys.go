package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/postgres/db"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// InsertKey stores a new key and returns it with its time. The error is Exists
// when its id or prefix is taken.
func (s *Store) InsertKey(ctx context.Context, k control.APIKey) (control.APIKey, error) {
	row, err := s.q.InsertKey(ctx, db.InsertKeyParams{ID: k.ID, Name: k.Name, Prefix: k.Prefix, Hash: k.Hash})
	if err != nil {
		return control.APIKey{}, faultOf(err)
	}
	return fromKey(row), nil
}

// UsableKey returns the key with this prefix that is not revoked, or NotFound.
func (s *Store) UsableKey(ctx context.Context, prefix string) (control.APIKey, error) {
	row, err := s.q.UsableKey(ctx, prefix)
	if errors.Is(err, pgx.ErrNoRows) {
		return control.APIKey{}, keyNotFound()
	}
	if err != nil {
		return control.APIKey{}, faultOf(err)
	}
	return fromKey(row), nil
}

// ListKeys returns all keys, revoked ones too, newest first.
func (s *Store) ListKeys(ctx context.Context) ([]control.APIKey, error) {
	rows, err := s.q.ListKeys(ctx)
	if err != nil {
		return nil, faultOf(err)
	}
	keys := make([]control.APIKey, 0, len(rows))
	for _, r := range rows {
		keys = append(keys, fromKey(r))
	}
	return keys, nil
}

// AnyUsableKey reports whether there is a key that is not revoked.
func (s *Store) AnyUsableKey(ctx context.Context) (bool, error) {
	ok, err := s.q.AnyUsableKey(ctx)
	return ok, faultOf(err)
}

// RevokeKey makes a key unusable permanently. Repeating it succeeds; an unknown id
// is NotFound.
func (s *Store) RevokeKey(ctx context.Context, id string) error {
	n, err := s.q.RevokeKey(ctx, id)
	if err == nil && n == 0 {
		return keyNotFound()
	}
	return faultOf(err)
}

// TouchKey records that a key has been used now.
func (s *Store) TouchKey(ctx context.Context, id string) error {
	return faultOf(s.q.TouchKey(ctx, id))
}

func keyNotFound() error {
	return fault.New(fault.NotFound, "key_not_found", "there is no such API key")
}

func fromKey(r db.ApiKey) control.APIKey {
	return control.APIKey{
		ID: r.ID, Name: r.Name, Prefix: r.Prefix, Hash: r.Hash,
		CreatedAt: r.CreatedAt.UTC(), LastUsedAt: utc(r.LastUsedAt), RevokedAt: utc(r.RevokedAt),
	}
}
