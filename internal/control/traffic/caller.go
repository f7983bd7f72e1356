package traffic

import (
	"net/http"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// caller is the kind of right with which a request reaches a port. Each kind has places
// of its own, so that people without credentials cannot take those of the sandbox's owner.
type caller int

const (
	// holder has a token of the sandbox or an API key.
	holder caller = iota + 1
	// visitor needs no credentials, because the port is public or the address of a file
	// is signed.
	visitor
	// stranger has shown no credentials to the guest's public server, which may refuse it.
	// Its requests are no use of the sandbox.
	stranger
)

// strangerShare is the part of MaxConnections that strangers may have: 1/strangerShare.
const strangerShare = 8

// limitOf returns the number of connections to one sandbox that callers of a kind may
// have at once. It is at least 1.
func (h *Handler) limitOf(c caller) int {
	if c == stranger {
		return max(1, h.MaxConnections/strangerShare)
	}
	return h.MaxConnections
}

// admitBytes returns an error if r asks for a raw connection to the guest's public server
// without a credential. Over one, a stranger could speak protocols to that server of
// which this server enforces no limits.
func admitBytes(r *http.Request, t target) error {
	if t.caller == stranger && wantsBytes(r) {
		return fault.New(fault.Forbidden, reasonToken,
			"a raw connection to port %d of sandbox %s needs the sandbox's token, in the header %s", t.port, t.id, headerEnvdToken)
	}
	return nil
}

// dropUpgrade removes the wish for another protocol from a request that is about to go
// to a program.
func dropUpgrade(h http.Header) {
	h.Del("Upgrade")
	h.Del("Connection")
}
