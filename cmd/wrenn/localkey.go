package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/wrenn-dev/wrenn/internal/control/auth"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/linux/durable"
)

// localKeyName is the name of the key that a server makes for the users of its
// own machine.
const localKeyName = "local"

// ensureLocalKey makes sure that the file at path, which root alone may read,
// holds a key that the server accepts. A key that was revoked, or that belongs
// to another database, is replaced by a new one.
func ensureLocalKey(ctx context.Context, keys *auth.Service, path string, log *slog.Logger) error {
	key, err := readSecret(path)
	if err == nil {
		switch _, err := keys.Authenticate(ctx, key); {
		case err == nil:
			return nil
		case !fault.Is(err, fault.Unauthenticated):
			return err
		}
	}
	k, key, err := keys.Create(ctx, localKeyName)
	if err != nil {
		return err
	}
	if err := writeSecret(path, key); err != nil {
		err = fault.Wrap(err, fault.Invalid, "invalid_data_dir", "the API key cannot be written to %s", path)
		return errors.Join(err, keys.Revoke(ctx, k.ID))
	}
	log.Info("made an API key for this machine", "file", path, "id", k.ID)
	return nil
}

// writeSecret replaces a file with one that only its owner can read.
func writeSecret(path, secret string) error {
	return durable.WriteFile(path, []byte(secret+"\n"), 0o600)
}
