package sandbox

import (
	"crypto/rand"
	"encoding/base32"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// ID names a sandbox permanently: it is never reused. It matches ^[a-z0-9]+$,
// so that it can stand in a DNS label, a path and a file name.
type ID string

// idLength is the number of characters of a new ID: 20 of base 32 carry 100
// random bits.
const idLength = 20

// maxIDLength bounds the ids that ParseID takes, so that "{port}-{id}" stays within a
// DNS label of 63 characters (RFC 1035, section 2.3.4).
const maxIDLength = 48

var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewID returns a fresh ID with 100 random bits.
func NewID() ID {
	var b [13]byte
	_, _ = rand.Read(b[:]) // never fails, see crypto/rand
	return ID(idEncoding.EncodeToString(b[:])[:idLength])
}

// ParseID checks that s has the form of an ID. Other text cannot name a
// sandbox, so the error is of kind NotFound.
func ParseID(s string) (ID, error) {
	if s == "" || len(s) > maxIDLength || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return "", fault.New(fault.NotFound, "sandbox_not_found", "there is no sandbox with the id %.*q", maxIDLength+1, s)
	}
	return ID(s), nil
}

// Generation counts the incarnations of a sandbox: it grows by one each time
// a VM is started for it (create, resume), and every command to a host carries
// it, so that an old message cannot reach a new VM.
type Generation uint64

// Ref names one incarnation of a sandbox.
type Ref struct {
	ID         ID
	Generation Generation
}

// SnapshotID names a snapshot permanently. It has the form of an ID.
type SnapshotID string

// NewSnapshotID returns a fresh SnapshotID with 100 random bits.
func NewSnapshotID() SnapshotID { return SnapshotID(NewID()) }

// ParseSnapshotID checks that s has the form of a SnapshotID. The error is of
// kind NotFound, as that of ParseID.
func ParseSnapshotID(s string) (SnapshotID, error) {
	if _, err := ParseID(s); err != nil {
		return "", fault.New(fault.NotFound, "snapshot_not_found", "there is no snapshot with the id %.*q", maxIDLength+1, s)
	}
	return SnapshotID(s), nil
}
