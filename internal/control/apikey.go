package control

import "time"

// APIKey is a key of the API as it is stored: without the key itself.
type APIKey struct {
	// ID names the key in commands and listings.
	ID   string
	Name string
	// Prefix is the beginning of the key, shown so that its owner knows which
	// one it is. It is unique and by far too short to guess the rest from.
	Prefix string
	// Hash is the SHA-256 of the key.
	Hash       []byte
	CreatedAt  time.Time
	LastUsedAt *time.Time
	// RevokedAt is nil while the key can be used.
	RevokedAt *time.Time
}
