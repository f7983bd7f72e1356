package control

import (
	"context"
	"strings"
	"unicode/utf8"

	"github.com/wrenn-dev/wrenn/internal/control/placement"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Bounds of a sandbox's metadata.
const (
	MaxMetadataEntries = 64
	MaxMetadataBytes   = 16 << 10
)

// ReasonNameTaken is the reason of a create with a name that another sandbox
// has, which has not ended.
const ReasonNameTaken = "name_taken"

// Create implements Sandboxes. The row is written before the host is called; a
// caller that hangs up does not stop the create, see detached.
func (s *Service) Create(ctx context.Context, n NewSandbox) (_ Sandbox, err error) {
	if err := sandbox.ValidateName(n.Name); err != nil {
		return Sandbox{}, err
	}
	if err := ValidateMetadata(n.Metadata); err != nil {
		return Sandbox{}, err
	}
	spec, from, err := s.resolve(ctx, n)
	if err != nil {
		return Sandbox{}, err
	}
	if err := spec.Validate(); err != nil {
		return Sandbox{}, err
	}
	if !spec.MinIsolation.Meets(s.cfg.MinIsolation) {
		spec.MinIsolation = s.cfg.MinIsolation
	}
	ctx, cancel := s.detached(ctx, s.cfg.CreateTimeout)
	defer cancel()
	var row Sandbox
	id := sandbox.NewID()
	defer func() { s.operated(row.HostID, err) }()
	defer s.underway.begin(id)()
	row, err = s.admit(ctx, Sandbox{
		ID: id, Name: n.Name, Generation: 1, State: sandbox.Pending,
		Spec: spec, Metadata: n.Metadata, SnapshotID: from.ID,
	}, from.HostID)
	if err != nil {
		return Sandbox{}, err
	}
	return s.boot(ctx, row, spec, from.ID)
}

// admit chooses a host for row, or takes the one given, and inserts it. The
// choice is made on numbers that may be old, so the store decides. Hosts that
// seem full are asked again before a create is refused.
func (s *Service) admit(ctx context.Context, row Sandbox, hostID string) (Sandbox, error) {
	demand := placement.Demand{Spec: row.Spec, MultiTenant: s.cfg.RequireMultiTenant, HostID: hostID}
	inserted, err := s.place(ctx, row, demand)
	if !fault.Is(err, fault.NoCapacity) {
		return inserted, err
	}
	s.loads.forget()
	if _, err := s.observeWhere(ctx, func(HostInfo) bool { return true }); err != nil {
		return Sandbox{}, err
	}
	return s.place(ctx, row, demand)
}

// place inserts row on the best host that the store lets it have.
func (s *Service) place(ctx context.Context, row Sandbox, demand placement.Demand) (Sandbox, error) {
	candidates, err := s.candidates(ctx)
	if err != nil {
		return Sandbox{}, err
	}
	for {
		best, err := placement.Choose(demand, candidates)
		if err != nil {
			return Sandbox{}, err
		}
		host := &candidates[best]
		row.HostID, row.Acceleration, row.Isolation = host.ID, host.Acceleration, host.Isolation
		inserted, err := s.insert(ctx, row)
		if !fault.Is(err, fault.NoCapacity) {
			return inserted, err
		}
		host.FreeVCPUs, host.FreeMemoryMB = 0, 0
	}
}

// insert writes row, and records its host first if that has not been done: the
// fleet knows of a host a moment before the database does.
func (s *Service) insert(ctx context.Context, row Sandbox) (Sandbox, error) {
	row.Server = s.id
	inserted, err := s.store.Insert(ctx, row)
	if fault.ReasonOf(err) == ReasonHostNotRecorded {
		if _, err := s.observe(ctx, row.HostID); err != nil {
			return Sandbox{}, err
		}
		inserted, err = s.store.Insert(ctx, row)
	}
	if err == nil {
		s.loads.add(row.HostID, Capacity{VCPUs: row.Spec.VCPUs, MemoryMB: row.Spec.MemoryMB})
	}
	return inserted, err
}

// candidates returns all hosts with their free capacity, as far as it is known.
func (s *Service) candidates(ctx context.Context) ([]placement.Host, error) {
	hosts, err := s.remembered(ctx)
	if err != nil {
		return nil, err
	}
	used, err := s.loads.held(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]placement.Host, 0, len(hosts))
	for _, h := range hosts {
		total, held := s.cfg.capacityOf(h), used[h.ID]
		out = append(out, placement.Host{
			ID: h.ID, Reachable: h.Reachable, Draining: h.Draining, MultiTenant: h.MultiTenant,
			Acceleration: h.Acceleration, Isolation: h.Isolation, Limits: h.Limits, Templates: h.Templates,
			TotalMemoryMB: total.MemoryMB, FreeMemoryMB: total.MemoryMB - held.MemoryMB,
			FreeVCPUs: total.VCPUs - held.VCPUs, FreeDiskMB: h.DiskRoomMB,
		})
	}
	return out, nil
}

// boot has the host start the sandbox of a pending row. spec is the row's with
// the environment, which rows do not keep; from is the snapshot to start from,
// which the row of a fork does not name.
func (s *Service) boot(ctx context.Context, row Sandbox, spec sandbox.Spec, from sandbox.SnapshotID) (Sandbox, error) {
	host, err := s.hostOf(row)
	if err != nil {
		return Sandbox{}, s.bootFailed(ctx, row, err)
	}
	hostCtx, cancel := context.WithTimeout(ctx, s.cfg.CreateTimeout)
	defer cancel()
	view, err := host.Create(hostCtx, row.Ref(), spec, from)
	switch {
	case err == nil:
		return s.booted(ctx, host, row, view)
	case OutcomeUnknown(err):
		return Sandbox{}, beingSettled(row, err)
	default:
		return Sandbox{}, s.bootFailed(ctx, row, err)
	}
}

// booted moves the row of a VM that runs. If the row has ended meanwhile the
// VM is destroyed.
func (s *Service) booted(ctx context.Context, host Host, row Sandbox, view View) (Sandbox, error) {
	s.healths.note(view)
	now, won, err := s.move(ctx, Move{
		Ref: row.Ref(), From: sandbox.Pending, To: sandbox.Running, Facts: &view.Facts,
	})
	switch {
	case fault.Is(err, fault.NotFound):
		return Sandbox{}, withCleanup(rowLost(err), host.Destroy(ctx, row.Ref(), sandbox.ReasonDestroyed))
	case err != nil:
		return Sandbox{}, err // the VM runs and the row is pending: the reconciler's
	case won, !now.State.Ended() && now.State != sandbox.Stopping:
		return s.healths.over(now), nil // or the reconciler came first
	}
	return Sandbox{}, withCleanup(overtaken(now), host.Destroy(ctx, row.Ref(), sandbox.ReasonDestroyed))
}

// rowLost is the fault of a create whose row a crash of the database took back
// before it was durable.
func rowLost(cause error) error {
	return fault.Wrap(cause, fault.Unavailable, "create_lost",
		"the database was restarted while the sandbox was being created; create it again")
}

// bootFailed records that the host definitely did not start row's sandbox, and
// returns the caller's error. The reconciler removes the host's memory of the
// attempt.
func (s *Service) bootFailed(ctx context.Context, row Sandbox, cause error) error {
	now, won, err := s.move(ctx, Move{
		Ref: row.Ref(), From: sandbox.Pending, To: sandbox.Error,
		StopReason: sandbox.ReasonBootFailed, Message: storable(fault.As(cause).Public),
	})
	if err == nil && !won && now.StopReason != sandbox.ReasonBootFailed {
		return overtaken(now)
	}
	return withCleanup(hostFault(cause), err)
}

// overtaken says why a create has no sandbox to return although it did its part.
func overtaken(row Sandbox) error {
	if row.State == sandbox.Stopping || row.StopReason == sandbox.ReasonDestroyed {
		return fault.New(fault.WrongState, ReasonEnded, "the sandbox was destroyed while it was being created")
	}
	return fault.New(fault.HostFailed, "boot_failed", "the sandbox ended while it was being created (%s)", row.StopReason)
}

// maxMessage bounds a message of a host that is stored, in bytes.
const maxMessage = 1024

// storable makes a sentence from elsewhere fit for a text column.
func storable(s string) string {
	s = strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "\uFFFD")
	if len(s) <= maxMessage {
		return s
	}
	cut := maxMessage
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut]
}

// ValidateMetadata checks number, size and content of metadata. NUL is refused
// because PostgreSQL's jsonb cannot hold it.
func ValidateMetadata(metadata map[string]string) error {
	if len(metadata) > MaxMetadataEntries {
		return fault.New(fault.Invalid, "invalid_metadata", "metadata may have at most %d entries", MaxMetadataEntries)
	}
	total := 0
	for k, v := range metadata {
		total += len(k) + len(v)
		if k == "" || strings.Contains(k+v, "\x00") || !utf8.ValidString(k+v) {
			return fault.New(fault.Invalid, "invalid_metadata", "metadata keys must not be empty, and keys and values must be UTF-8 without NUL")
		}
	}
	if total > MaxMetadataBytes {
		return fault.New(fault.Invalid, "invalid_metadata", "metadata may hold at most %d bytes", MaxMetadataBytes)
	}
	return nil
}
