package rest

import (
	"net/http"
	"time"

	"github.com/wrenn-dev/wrenn/api/types"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// createFields are the fields of a CreateSandboxRequest besides plain values.
// Nil means that the field is absent. In a spec, zero means that the default or
// a snapshot decides; in a request, a zero is a value.
type createFields struct {
	template            *string
	vcpus, memory, disk *int
	clocks              clockFields
	snapshot, isolation string
}

// readCreate decodes and validates a CreateSandboxRequest.
func (s *server) readCreate(w http.ResponseWriter, r *http.Request) (control.NewSandbox, error) {
	var n control.NewSandbox
	var f createFields
	err := readJSON(w, r, fields{
		"name":          &n.Name,
		"template":      &f.template,
		"vcpus":         &f.vcpus,
		"memory_mb":     &f.memory,
		"disk_mb":       &f.disk,
		"timeout_sec":   &f.clocks.idle,
		"lifetime_sec":  &f.clocks.lifetime,
		"on_timeout":    &f.clocks.onTimeout,
		"auto_resume":   &f.clocks.autoResume,
		"snapshot_id":   &f.snapshot,
		"env":           &n.Spec.Env,
		"hostname":      &n.Spec.Hostname,
		"metadata":      &n.Metadata,
		"min_isolation": &f.isolation,
	})
	if err != nil {
		return n, err
	}
	if err := sandbox.ValidateName(n.Name); err != nil {
		return n, err
	}
	if n.SnapshotID, err = snapshotIn(f.snapshot); err != nil {
		return n, err
	}
	n.Spec.Timeout = sandbox.DefaultTimeoutSec * time.Second
	n.Spec.MinIsolation = sandbox.Isolation(f.isolation)
	clocks, err := f.clocks.request()
	if err != nil {
		return n, err
	}
	n.Spec = clocks.Over(n.Spec)
	whole := f.over(n.Spec.WithDefaults())
	if err := s.validateSpec(r.Context(), whole); err != nil {
		return n, err
	}
	n.Spec = f.over(n.Spec)
	n.Spec.OnTimeout = whole.OnTimeout
	return n, nil
}

// over returns spec with the template and sizes that were given.
func (f createFields) over(spec sandbox.Spec) sandbox.Spec {
	if f.template != nil {
		spec.Template = *f.template
	}
	for _, size := range []struct {
		given *int
		dst   *int
	}{{f.vcpus, &spec.VCPUs}, {f.memory, &spec.MemoryMB}, {f.disk, &spec.DiskMB}} {
		if size.given != nil {
			*size.dst = *size.given
		}
	}
	return spec
}

// snapshotIn is the id of a snapshot in a body. Text that cannot be one is
// NotFound; "" is none.
func snapshotIn(id string) (sandbox.SnapshotID, error) {
	if id == "" {
		return "", nil
	}
	return sandbox.ParseSnapshotID(id)
}

// listedJSON is a Sandbox in a list, without the fields that only the answer for
// one sandbox has.
type listedJSON struct {
	types.Sandbox
	// RestoreReport hides the embedded field and is always absent.
	RestoreReport *struct{} `json:"restore_report,omitempty"`
}

// sandboxOf leaves out internal fields: the generation, and the environment, whose
// values are secrets. It shows the actual isolation, not the required one.
func sandboxOf(sb control.Sandbox) types.Sandbox {
	metadata := sb.Metadata
	if metadata == nil {
		metadata = map[string]string{}
	}
	return types.Sandbox{
		ID:            string(sb.ID),
		Name:          nullable(sb.Name),
		Status:        string(sb.State.Status()),
		Template:      sb.Spec.Template,
		VCPUs:         sb.Spec.VCPUs,
		MemoryMB:      sb.Spec.MemoryMB,
		DiskMB:        sb.Spec.DiskMB,
		TimeoutSec:    int(sb.Spec.Timeout / time.Second),
		GuestIP:       sb.GuestIP,
		HostIP:        sb.HostIP,
		HostID:        sb.HostID,
		Hostname:      sb.Spec.GuestHostname(sb.ID),
		Acceleration:  sb.Acceleration,
		Isolation:     string(sb.Isolation),
		CreatedAt:     sb.CreatedAt.UTC(),
		StartedAt:     utc(sb.StartedAt),
		LastActiveAt:  utc(sb.LastActiveAt),
		LastUpdated:   sb.UpdatedAt.UTC(),
		EndedAt:       utc(sb.EndedAt),
		StopReason:    nullable(string(sb.StopReason)),
		Message:       nullable(sb.Message),
		Metadata:      metadata,
		LifetimeSec:   int(sb.Spec.Lifetime / time.Second),
		OnTimeout:     string(sb.Spec.OnTimeout),
		AutoResume:    sb.Spec.AutoResume,
		SnapshotID:    nullable(string(sb.SnapshotID)),
		ParentID:      nullable(string(sb.ParentID)),
		Source:        nullable(sb.Source),
		DiskFull:      sb.DiskFull,
		Health:        healthOf(sb.Health),
		RestoreReport: restoreReportOf(sb.RestoreReport),
		Clocks:        clocksOf(sb),
	}
}
