package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"unicode"
)

// A key is keyStart and 40 hexadecimal digits: 160 random bits.
//
// Because a key is random, and not chosen by a human, a plain SHA-256 at rest
// is enough: there is no dictionary to try, and a slow hash would only slow
// down each request.
const (
	keyStart  = "wrn_"
	e2bStart  = "e2b_"
	keyBytes  = 20
	keyLength = len(keyStart) + 2*keyBytes
	// prefixLength is how much of a key listings show: 32 of its 160 bits.
	prefixLength = len(keyStart) + 8
)

// newKey returns a fresh key.
func newKey() string {
	var b [keyBytes]byte
	_, _ = rand.Read(b[:]) // never fails, see crypto/rand
	return keyStart + hex.EncodeToString(b[:])
}

// newKeyID returns a fresh name for a key.
func newKeyID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails, see crypto/rand
	return "key_" + hex.EncodeToString(b[:])
}

// canonical returns the form of a presented key that keys are made in. Older clients of
// E2B send a key only if it begins with e2bStart, so that a key may be presented with
// that start in place of its own.
func canonical(presented string) string {
	if digits, ok := strings.CutPrefix(presented, e2bStart); ok {
		return keyStart + digits
	}
	return presented
}

// wellFormed reports whether s can be a key, before the database is asked.
func wellFormed(s string) bool {
	digits, ok := strings.CutPrefix(s, keyStart)
	return ok && len(s) == keyLength && strings.Trim(digits, "0123456789abcdef") == ""
}

func hashOf(key string) [sha256.Size]byte { return sha256.Sum256([]byte(key)) }

// printable reports whether a name can be shown in a table.
func printable(name string) bool {
	return strings.IndexFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}
