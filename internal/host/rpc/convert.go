package rpc

import (
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	hostv1 "github.com/wrenn-dev/wrenn/api/gen/host/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/hostwire"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

func toRef(r *hostv1.Ref) (sandbox.Ref, error) {
	id, err := sandbox.ParseID(r.GetId())
	if err != nil {
		return sandbox.Ref{}, fault.Wrap(err, fault.Invalid, "invalid_ref", "the ref names no sandbox")
	}
	return sandbox.Ref{ID: id, Generation: sandbox.Generation(r.GetGeneration())}, nil
}

func fromRef(r sandbox.Ref) *hostv1.Ref {
	return &hostv1.Ref{Id: string(r.ID), Generation: uint64(r.Generation)}
}

// fromSpec leaves the environment and the token out: they are secret, the control plane
// does not ask for them, and a list of many would outgrow a message.
func fromSpec(s sandbox.Spec) *hostv1.SandboxSpec {
	s.Env, s.EnvdToken = nil, ""
	return hostwire.SpecToProto(s)
}

func seconds(n uint32) time.Duration { return time.Duration(n) * time.Second }

func toTimeouts(r *hostv1.SetTimeoutsRequest) host.Timeouts {
	var t host.Timeouts
	if r.TimeoutSec != nil {
		idle := seconds(r.GetTimeoutSec())
		t.Idle = &idle
	}
	if r.LifetimeSec != nil {
		lifetime := seconds(r.GetLifetimeSec())
		t.Lifetime = &lifetime
	}
	if r.OnTimeout != nil {
		action := sandbox.TimeoutAction(r.GetOnTimeout())
		t.OnTimeout = &action
	}
	return t
}

var wireState = map[sandbox.State]hostv1.SandboxState{
	sandbox.Pending:  hostv1.SandboxState_SANDBOX_STATE_STARTING,
	sandbox.Running:  hostv1.SandboxState_SANDBOX_STATE_RUNNING,
	sandbox.Pausing:  hostv1.SandboxState_SANDBOX_STATE_PAUSING,
	sandbox.Paused:   hostv1.SandboxState_SANDBOX_STATE_PAUSED,
	sandbox.Resuming: hostv1.SandboxState_SANDBOX_STATE_RESUMING,
	sandbox.Stopping: hostv1.SandboxState_SANDBOX_STATE_STOPPING,
	sandbox.Stopped:  hostv1.SandboxState_SANDBOX_STATE_STOPPED,
}

func fromSandbox(s host.Sandbox) *hostv1.Sandbox {
	out := &hostv1.Sandbox{
		Ref: fromRef(s.Ref), Spec: fromSpec(s.Spec), State: wireState[s.State], StopReason: string(s.StopReason),
		GuestIp: s.GuestIP, HostIp: s.HostIP, Acceleration: s.Acceleration, Isolation: string(s.Isolation),
		StartedAt: fromTime(s.StartedAt), LastActiveAt: fromTime(s.LastActiveAt), TemplateDigest: s.TemplateDigest,
		StepMicros: micros(s.Steps), RestoreReport: fromRestoreReport(s.RestoreReport), SnapshotId: string(s.SnapshotID),
		LifetimeEndsAt: fromTime(s.LifetimeEnd), Source: string(s.Source),
		Stage: s.Stage, Busy: s.Busy, DiskFull: s.DiskFull, DiskOnly: s.DiskOnly,
		Health: string(s.Health.State), SilentSince: fromTime(s.Health.Since), Forced: s.Health.Forced,
	}
	return out
}

func micros(steps map[string]time.Duration) map[string]int64 {
	out := make(map[string]int64, len(steps))
	for name, d := range steps {
		out[name] = d.Microseconds()
	}
	return out
}

func fromRestoreReport(h *sandbox.RestoreReport) *hostv1.RestoreReport {
	if h == nil {
		return nil
	}
	return &hostv1.RestoreReport{
		At: fromTime(h.At), Generation: uint64(h.Generation),
		ClockStepNano: int64(h.ClockStep), ClockSkewNano: int64(h.ClockSkew),
		Reseeded: h.Reseeded, NewIdentity: h.NewIdentity, TokenReplaced: h.TokenReplaced,
		NetworkAnswers: h.NetworkAnswers, VmGeneration: h.VMGeneration,
		ConnectionsClosed: uint32(h.ConnectionsClosed), StepMicros: micros(h.Steps),
	}
}

func fromSnapshot(s host.Snapshot) *hostv1.Snapshot {
	return &hostv1.Snapshot{
		Id: string(s.ID), Spec: fromSpec(s.Spec), TemplateDigest: s.TemplateDigest, Ref: fromRef(s.Of),
		CreatedAt: fromTime(s.CreatedAt), Bytes: s.Bytes, Users: uint32(s.Users), Deleted: s.Deleted,
		PauseWindowMicros: s.PauseWindow.Microseconds(), DiskOnly: s.DiskOnly,
	}
}

func fromPool(p host.PoolInfo) *hostv1.Pool {
	spec := p.Spec.WithDefaults()
	return &hostv1.Pool{
		Template: spec.Template, Runtime: string(spec.Runtime), Vcpus: uint32(spec.VCPUs), MemoryMb: uint32(spec.MemoryMB), DiskMb: uint32(spec.DiskMB),
		Target: uint32(p.Size), Ready: uint32(p.Ready), Hits: p.Hits, Misses: p.Misses,
	}
}

func fromTime(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func fromInfo(i host.Info) *hostv1.GetHostResponse {
	preferred := i.Runtimes[0]
	out := &hostv1.GetHostResponse{
		HostId: i.HostID, AgentVersion: i.AgentVersion, GuestVersion: i.GuestVersion,
		Driver: preferred.Driver, DriverVersion: preferred.Version,
		Acceleration: string(preferred.Acceleration), AccelerationReason: preferred.Reason,
		Isolation: string(preferred.Isolation), MultiTenant: preferred.MultiTenant, KernelRelease: i.KernelRelease,
		VcpusTotal: uint32(i.VCPUs), MemoryMbTotal: uint32(i.MemoryMB),
		DiskBytesTotal: i.DiskTotal, DiskBytesFree: i.DiskFree,
		MaxVcpus: uint32(i.Limits.MaxVCPUs), MaxMemoryMb: uint32(i.Limits.MaxMemoryMB), MinMemoryMb: uint32(i.Limits.MinMemoryMB),
		Templates: i.Templates, TemplateDigests: i.TemplateDigests, Draining: i.Draining, BootRetries: i.BootRetries,
		DiskReserveBytes: i.DiskReserve, DiskRoomMb: proto.Uint64(uint64(i.DiskRoomMB)),
		MemoryRoomMb: proto.Uint64(uint64(i.MemoryRoomMB)), Reflink: i.Reflink,
		Runtimes: runtimesOf(i), DiskPauses: true,
	}
	for _, p := range i.Pools {
		out.Pools = append(out.Pools, fromPool(p))
	}
	return out
}

// runtimesOf returns the runtimes that a host offers.
func runtimesOf(i host.Info) []*hostv1.Runtime {
	out := make([]*hostv1.Runtime, len(i.Runtimes))
	for n, v := range i.Runtimes {
		out[n] = &hostv1.Runtime{
			Name: string(v.Runtime), Driver: v.Driver, DriverVersion: v.Version, Acceleration: string(v.Acceleration),
			Reason: v.Reason, Isolation: string(v.Isolation), MultiTenant: v.MultiTenant,
		}
		if v.Shape.DiskInMemory {
			out[n].DiskMemoryShare = i.DiskMemoryShare
		}
	}
	return out
}
