package instance

import (
	"context"
	"net"

	"github.com/wrenn-dev/wrenn/internal/guestclient"
)

// NewGuest returns a client for the guest behind the present network slot.
func (i *Instance) NewGuest() *guestclient.Client {
	slot := i.Slot
	return guestclient.New(func(ctx context.Context, port uint16) (net.Conn, error) { return slot.Dial(ctx, port) })
}

// SetGuest stores the client that Guest returns.
func (i *Instance) SetGuest(g *guestclient.Client) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.guest = g
}

// Guest returns the client of the guest, or nil while there is none.
func (i *Instance) Guest() *guestclient.Client {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.guest
}

// DropGuest breaks every connection to the guest.
func (i *Instance) DropGuest() {
	i.mu.Lock()
	g := i.guest
	i.guest = nil
	i.mu.Unlock()
	if g != nil {
		g.Close()
	}
}
