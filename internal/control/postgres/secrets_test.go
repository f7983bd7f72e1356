package postgres_test

import (
	"bytes"
	"sync"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/control/postgres/pgtest"
)

// TestServersShareTheSigningSecret: servers that start at once get one secret, which
// stays until it is revoked.
func TestServersShareTheSigningSecret(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	secrets := make([][]byte, 8)
	var all sync.WaitGroup
	for i := range secrets {
		all.Go(func() {
			var err error
			if secrets[i], err = storeOn(pool).SigningSecret(t.Context()); err != nil {
				t.Errorf("secret: %v", err)
			}
		})
	}
	all.Wait()
	for _, got := range secrets {
		if len(got) != 32 || !bytes.Equal(got, secrets[0]) {
			t.Errorf("got %x and %x, want one secret of 32 bytes", got, secrets[0])
		}
	}
	s := storeOn(pool)
	if err := s.RevokeSignedURLs(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := s.SigningSecret(t.Context()); err != nil || bytes.Equal(got, secrets[0]) || len(got) != 32 {
		t.Errorf("after the revocation: got %x, %v; want another secret", got, err)
	}
}
