package network

import (
	"errors"

	"github.com/vishvananda/netlink"
)

// dumpTries is how often a list is asked for that changes while it is read.
const dumpTries = 50

// dump calls read, which asks the kernel for a whole list, until the list did
// not change meanwhile (NLM_F_DUMP_INTR of netlink(7)). On a host where others
// make and remove devices all the time the last try may fail too.
func dump[T any](read func() (T, error)) (list T, err error) {
	for range dumpTries {
		if list, err = read(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return list, err
		}
	}
	return list, err
}
