package rest

import (
	"net/http"
	"time"

	"github.com/wrenn-dev/wrenn/api/types"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// readCreate decodes a CreateSandboxRequest. The use case completes and validates
// the spec.
func readCreate(w http.ResponseWriter, r *http.Request) (control.NewSandbox, error) {
	var n control.NewSandbox
	var clocks clockFields
	var snapshot, isolation, runtime string
	var deny, allow []string
	err := readJSON(w, r, fields{
		"name":          &n.Name,
		"template":      &n.Spec.Template,
		"vcpus":         &n.Spec.VCPUs,
		"memory_mb":     &n.Spec.MemoryMB,
		"disk_mb":       &n.Spec.DiskMB,
		"timeout_sec":   &clocks.idle,
		"lifetime_sec":  &clocks.lifetime,
		"on_timeout":    &clocks.onTimeout,
		"auto_resume":   &clocks.autoResume,
		"snapshot_id":   &snapshot,
		"env":           &n.Spec.Env,
		"hostname":      &n.Spec.Hostname,
		"metadata":      &n.Metadata,
		"min_isolation": &isolation,
		"runtime":       &runtime,
		"public_ports":  &n.Spec.PublicPorts,
		"https_ports":   &n.Spec.HTTPSPorts,
		"egress_deny":   &deny,
		"egress_allow":  &allow,
	})
	if err != nil {
		return n, err
	}
	if err := sandbox.ValidateName(n.Name); err != nil {
		return n, err
	}
	if n.SnapshotID, err = snapshotIn(snapshot); err != nil {
		return n, err
	}
	if n.Spec.Egress, err = sandbox.ParseEgress(deny, allow); err != nil {
		return n, err
	}
	n.Spec.MinIsolation = sandbox.Isolation(isolation)
	if runtime != autoRuntime {
		n.Spec.Runtime = sandbox.Runtime(runtime)
	}
	n.Spec.Clocks, err = clocks.request()
	return n, err
}

// pauseModeOf returns the kind of sb's pause, or nil if sb is not paused or the host has
// not been heard from.
func pauseModeOf(sb control.Sandbox) *string {
	switch {
	case sb.State != sandbox.Paused || sb.Health.State == "":
		return nil
	case sb.DiskOnly:
		return nullable("disk")
	}
	return nullable("full")
}

// autoRuntime is the value of "runtime" in a create that leaves the choice to the
// server.
const autoRuntime = "auto"

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
	deny, allow := sb.Spec.Egress.Strings()
	return types.Sandbox{
		ID:            string(sb.ID),
		Name:          nullable(sb.Name),
		Status:        string(sb.State.Status()),
		Template:      sb.Spec.TemplateName(),
		VCPUs:         sb.Spec.VCPUs,
		MemoryMB:      sb.Spec.MemoryMB,
		DiskMB:        sb.Spec.DiskMB,
		TimeoutSec:    int(sb.Spec.Timeout / time.Second),
		GuestIP:       sb.GuestIP,
		HostIP:        sb.HostIP,
		HostID:        sb.HostID,
		Hostname:      sb.Spec.GuestHostname(sb.ID),
		Runtime:       string(sb.Spec.Runtime),
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
		PauseMode:     pauseModeOf(sb),
		RestoreReport: restoreReportOf(sb.RestoreReport),
		Clocks:        clocksOf(sb),
		EgressDeny:    deny,
		EgressAllow:   allow,
	}
}
