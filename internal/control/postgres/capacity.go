package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

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
	return faultOf(s.q.SaveHost(ctx, db.SaveHostParams{
		ID: h.ID, CapacityVcpus: int32(c.VCPUs), CapacityMemoryMb: int32(c.MemoryMB),
		AgentVersion: h.AgentVersion, Driver: h.Driver,
		Acceleration: h.Acceleration, Isolation: string(h.Isolation),
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

// takeCapacity locks the host until the transaction ends and fails with
// NoCapacity unless need is free on it.
func takeCapacity(ctx context.Context, q *db.Queries, hostID string, need control.Capacity) error {
	host, err := q.LockHost(ctx, hostID)
	if errors.Is(err, pgx.ErrNoRows) {
		return fault.New(fault.NoCapacity, control.ReasonHostNotRecorded, "the host is not ready yet; try again later")
	}
	if err != nil {
		return err
	}
	held, err := q.HeldOnHost(ctx, db.HeldOnHostParams{HostID: hostID, Holding: holding})
	if err != nil {
		return err
	}
	if held.Vcpus+int64(need.VCPUs) > int64(host.CapacityVcpus) ||
		held.MemoryMb+int64(need.MemoryMB) > int64(host.CapacityMemoryMb) {
		return noCapacity()
	}
	return nil
}

// checkCapacity is takeCapacity after a row has been written in the same
// transaction: the sum, with that row, must not exceed what the host has.
func checkCapacity(ctx context.Context, q *db.Queries, hostID string) error {
	return takeCapacity(ctx, q, hostID, control.Capacity{})
}

func noCapacity() error {
	return fault.New(fault.NoCapacity, "no_capacity", "the host has no capacity for this now; try again later")
}
