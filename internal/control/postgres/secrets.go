package postgres

import (
	"context"
	"crypto/rand"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/wrenn-dev/wrenn/internal/control/postgres/db"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// signingSecret is the name of the secret with which URLs are signed.
const signingSecret = "url_signing"

// secretBytes is the size of a secret.
const secretBytes = 32

// SigningSecret returns the secret with which the servers of this database sign URLs.
// The first call makes it. It is read anew each time, so that a change applies at once
// to all servers.
func (s *Store) SigningSecret(ctx context.Context) ([]byte, error) {
	for {
		value, err := s.q.Secret(ctx, signingSecret)
		if !errors.Is(err, pgx.ErrNoRows) {
			if err == nil && len(value) < secretBytes {
				return nil, fault.New(fault.Internal, "internal", "the secret that signs URLs is damaged")
			}
			return value, faultOf(err)
		}
		value = make([]byte, secretBytes)
		_, _ = rand.Read(value) // never fails
		// If another server was faster, its secret is the one that counts.
		if err := s.q.InsertSecret(ctx, db.InsertSecretParams{Name: signingSecret, Value: value}); err != nil {
			return nil, faultOf(err)
		}
	}
}

// RevokeSignedURLs makes every URL invalid that was signed before.
func (s *Store) RevokeSignedURLs(ctx context.Context) error {
	return faultOf(s.q.DeleteSecret(ctx, signingSecret))
}
