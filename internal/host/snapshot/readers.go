package snapshot

import (
	"crypto/rand"
	"encoding/binary"
)

// The group ids that bases get. Nothing else hands out ids there: distributions
// end at 60000, systemd's containers at 0x6fffffff (systemd, UIDS-GIDS).
const (
	firstReaders = 0x70000000
	readersBits  = 26
)

// newReaders returns the id of a new group: who is in it may read one base. It is
// random, so that agents that share a directory need not agree; should two bases
// ever get the same, each is still only in the jails of its own VMs.
func newReaders() int {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return firstReaders + int(binary.LittleEndian.Uint32(b[:])&(1<<readersBits-1))
}
