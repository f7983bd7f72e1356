package control

import (
	"cmp"
	"context"
	"strings"
	"unicode/utf8"

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

// creator is the use case that creates a sandbox. It needs nothing of the store
// itself: placer inserts the row and booter moves it.
type creator struct {
	common
	templates    *templates
	placer       *placer
	booter       *booter
	inFlight     *inFlight
	passRequests *passRequests
}

// Create implements Sandboxes. The row is written before the host is called; a
// caller that hangs up does not stop the create, see detached.
func (c *creator) Create(ctx context.Context, n NewSandbox) (Sandbox, error) {
	if err := sandbox.ValidateName(n.Name); err != nil {
		return Sandbox{}, err
	}
	if err := ValidateMetadata(n.Metadata); err != nil {
		return Sandbox{}, err
	}
	spec, from, err := c.templates.resolve(ctx, n)
	if err != nil {
		return Sandbox{}, err
	}
	row, err := c.start(ctx, Sandbox{Name: n.Name, Spec: spec, Metadata: n.Metadata, SnapshotID: from.ID}, from.HostID, n.Progress)
	if err == nil && n.SnapshotID == "" && spec.TemplateID != "" {
		c.templates.countSpawn(ctx, spec.TemplateID)
	}
	return row, err
}

// start completes row, writes it and has a host start its sandbox: the host with the id, or
// any for "". progress is that of NewSandbox.
func (c *creator) start(ctx context.Context, row Sandbox, hostID string, progress func(CreateStage)) (_ Sandbox, err error) {
	spec := row.Spec
	if !spec.MinIsolation.Meets(c.cfg.MinIsolation) {
		spec.MinIsolation = c.cfg.MinIsolation
	}
	spec.TrafficKey, spec.InitialLifetime = sandbox.NewTrafficKey(), spec.Lifetime
	ctx, cancel := c.detached(ctx, c.cfg.CreateTimeout)
	defer cancel()
	row.ID, row.Generation, row.State, row.Spec = cmp.Or(row.ID, sandbox.NewID()), 1, sandbox.Pending, spec
	from := row.SnapshotID
	defer func() { c.passRequests.requestAfter(row.HostID, err) }()
	defer c.inFlight.begin(row.ID)()
	row, err = c.placer.admit(ctx, row, hostID)
	if err != nil {
		return Sandbox{}, err
	}
	spec.Runtime = row.Spec.Runtime
	return c.booter.boot(ctx, row, spec, from, progress)
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
