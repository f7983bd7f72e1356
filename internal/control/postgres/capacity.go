package postgres

import (
	"context"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/postgres/db"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// holding lists the states in which a row holds capacity.
var holding = func() []string {
	var out []string
	for _, s := range sandbox.States() {
		if s.Holds() {
			out = append(out, string(s))
		}
	}
	return out
}()

// SaveHost implements control.Store.
func (s *Store) SaveHost(ctx context.Context, h control.HostInfo, c control.Capacity) error {
	preferred := h.Preferred()
	return faultOf(s.q.SaveHost(ctx, db.SaveHostParams{
		ID: h.ID, CapacityVcpus: int32(c.VCPUs), CapacityMemoryMb: int32(c.MemoryMB),
		AgentVersion: h.AgentVersion, Driver: preferred.Driver,
		Acceleration: preferred.Acceleration, Isolation: string(preferred.Isolation),
	}))
}

// Usage implements control.Store.
func (s *Store) Usage(ctx context.Context) (map[string]control.Capacity, error) {
	rows, err := s.q.HeldByHost(ctx, holding)
	if err != nil {
		return nil, faultOf(err)
	}
	out := make(map[string]control.Capacity, len(rows))
	for _, r := range rows {
		out[r.HostID] = control.Capacity{VCPUs: int(r.Vcpus), MemoryMB: int(r.MemoryMb)}
	}
	return out, nil
}

// noRoom says why no row could be inserted on a host.
func noRoom(ctx context.Context, q *db.Queries, hostID string) error {
	known, err := q.HostExists(ctx, hostID)
	switch {
	case err != nil:
		return faultOf(err)
	case !known:
		return fault.New(fault.NoCapacity, control.ReasonHostNotRecorded, "the host is not ready yet; try again later")
	default:
		return noCapacity(hostID)
	}
}

// checkCapacity fails with NoCapacity when a host, including the rows that the
// transaction has just written, exceeds its capacity, and locks the host until the
// transaction ends.
func checkCapacity(ctx context.Context, q *db.Queries, hostID string) error {
	enough, err := q.TakeCapacity(ctx, db.TakeCapacityParams{HostID: hostID, Holding: holding})
	if err == nil && !enough {
		return noCapacity(hostID)
	}
	return err
}

func noCapacity(hostID string) error {
	return fault.New(fault.NoCapacity, "no_capacity",
		"host %s has too little memory or too few virtual CPUs free for this; pause or destroy sandboxes, or try again later", hostID)
}
