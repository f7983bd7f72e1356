package hostclient

import (
	"cmp"
	"math"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	hostv1 "github.com/wrenn-dev/wrenn/api/gen/host/v1"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/hostwire"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

func refToProto(r sandbox.Ref) *hostv1.Ref {
	return &hostv1.Ref{Id: string(r.ID), Generation: uint64(r.Generation)}
}

func refFromProto(r *hostv1.Ref) sandbox.Ref {
	return sandbox.Ref{ID: sandbox.ID(r.GetId()), Generation: sandbox.Generation(r.GetGeneration())}
}

// seconds rounds up: zero means never.
func seconds(d time.Duration) uint32 { return uint32((d + time.Second - 1) / time.Second) }

var vmStateOf = map[hostv1.SandboxState]control.VMState{
	hostv1.SandboxState_SANDBOX_STATE_STARTING: control.VMStarting,
	hostv1.SandboxState_SANDBOX_STATE_RUNNING:  control.VMRunning,
	hostv1.SandboxState_SANDBOX_STATE_PAUSING:  control.VMPausing,
	hostv1.SandboxState_SANDBOX_STATE_PAUSED:   control.VMPaused,
	hostv1.SandboxState_SANDBOX_STATE_RESUMING: control.VMResuming,
	hostv1.SandboxState_SANDBOX_STATE_STOPPING: control.VMStopping,
	hostv1.SandboxState_SANDBOX_STATE_STOPPED:  control.VMStopped,
}

// observedFromProto takes a state that it does not know, of a host newer than this
// client, for an operation in flight, from which nothing is concluded.
func observedFromProto(s *hostv1.Sandbox) control.ObservedSandbox {
	v := control.ObservedSandbox{
		Ref: refFromProto(s.GetRef()), Spec: hostwire.SpecFromProto(s.GetSpec()),
		State: control.VMStarting, StopReason: sandbox.StopReason(s.GetStopReason()),
		Runtime: control.RuntimeInfo{
			GuestIP: s.GetGuestIp(), HostIP: s.GetHostIp(), Acceleration: s.GetAcceleration(),
			Isolation: sandbox.Isolation(s.GetIsolation()), StartedAt: timeFromProto(s.GetStartedAt()),
			LifetimeEndsAt: timeFromProto(s.GetLifetimeEndsAt()), RestoreReport: restoreReportFromProto(s.GetRestoreReport()),
			Source: s.GetSource(), DiskFull: s.GetDiskFull(),
		},
		LastActiveAt:   timeFromProto(s.GetLastActiveAt()),
		TemplateDigest: s.GetTemplateDigest(),
		SnapshotID:     sandbox.SnapshotID(s.GetSnapshotId()),
		Steps:          stepsFromProto(s.GetStepMicros()),
		Busy:           s.GetBusy(),
		Stage:          control.CreateStage(s.GetStage()),
		DiskOnly:       s.GetDiskOnly(),
		Health: sandbox.Health{
			State: sandbox.HealthState(s.GetHealth()), Since: timeFromProto(s.GetSilentSince()), Forced: s.GetForced(),
		},
	}
	if state, ok := vmStateOf[s.GetState()]; ok {
		v.State = state
	}
	return v
}

func stepsFromProto(micros map[string]int64) map[string]time.Duration {
	steps := make(map[string]time.Duration, len(micros))
	for name, n := range micros {
		steps[name] = time.Duration(n) * time.Microsecond
	}
	return steps
}

// restoreReportFromProto returns nil for nil.
func restoreReportFromProto(h *hostv1.RestoreReport) *sandbox.RestoreReport {
	if h == nil {
		return nil
	}
	return &sandbox.RestoreReport{
		At: timeFromProto(h.GetAt()), Generation: sandbox.Generation(h.GetGeneration()),
		ClockStep: time.Duration(h.GetClockStepNano()), ClockSkew: time.Duration(h.GetClockSkewNano()),
		Reseeded: h.GetReseeded(), NewIdentity: h.GetNewIdentity(), TokenReplaced: h.GetTokenReplaced(),
		NetworkAnswers: h.GetNetworkAnswers(), VMGeneration: h.GetVmGeneration(),
		ConnectionsClosed: int(h.GetConnectionsClosed()), Steps: stepsFromProto(h.GetStepMicros()),
	}
}

// timeoutsToProto leaves out clocks that do not change.
func timeoutsToProto(ref sandbox.Ref, t control.TimeoutChange) *hostv1.SetTimeoutsRequest {
	out := &hostv1.SetTimeoutsRequest{Ref: refToProto(ref), OnTimeout: (*string)(t.OnTimeout)}
	if t.Idle != nil {
		out.TimeoutSec = proto.Uint32(seconds(*t.Idle))
	}
	if t.Lifetime != nil {
		out.LifetimeSec = proto.Uint32(seconds(*t.Lifetime))
	}
	return out
}

// snapshotFromProto returns the host's report about a snapshot.
func snapshotFromProto(s *hostv1.Snapshot) control.ObservedSnapshot {
	return control.ObservedSnapshot{
		ID: sandbox.SnapshotID(s.GetId()), Of: refFromProto(s.GetRef()), Spec: hostwire.SpecFromProto(s.GetSpec()),
		TemplateDigest: s.GetTemplateDigest(), CreatedAt: timeFromProto(s.GetCreatedAt()),
		Bytes: s.GetBytes(), Users: int(s.GetUsers()), Deleted: s.GetDeleted(),
		PauseWindow: time.Duration(s.GetPauseWindowMicros()) * time.Microsecond, DiskOnly: s.GetDiskOnly(),
	}
}

func garbageFromProto(g *hostv1.CollectGarbageResponse_Item) control.Garbage {
	return control.Garbage{Kind: g.GetKind(), ID: g.GetId(), Bytes: g.GetBytes(), Reason: g.GetReason()}
}

// timeFromProto returns the zero time for one that is absent.
func timeFromProto(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

// infoFromProto leaves Reachable and SeenAt to the fleet.
func infoFromProto(h *hostv1.GetHostResponse) control.HostInfo {
	return control.HostInfo{
		ID: h.GetHostId(), AgentVersion: h.GetAgentVersion(), GuestVersion: h.GetGuestVersion(),
		Runtimes:      runtimesFromProto(h),
		KernelRelease: h.GetKernelRelease(), VCPUs: int(h.GetVcpusTotal()), MemoryMB: int(h.GetMemoryMbTotal()),
		DiskTotal: h.GetDiskBytesTotal(), DiskFree: h.GetDiskBytesFree(),
		Limits: sandbox.Limits{
			MaxVCPUs: int(h.GetMaxVcpus()), MinMemoryMB: int(h.GetMinMemoryMb()), MaxMemoryMB: int(h.GetMaxMemoryMb()),
		},
		Templates: h.GetTemplates(), TemplateDigests: h.GetTemplateDigests(), Draining: h.GetDraining(), BootRetries: h.GetBootRetries(),
		Pools: poolsFromProto(h.GetPools()), DiskReserve: h.GetDiskReserveBytes(), DiskRoomMB: room(h.DiskRoomMb), MemoryRoomMB: room(h.MemoryRoomMb),
		Reflink: h.GetReflink(), DiskPauses: h.GetDiskPauses(),
	}
}

// runtimesFromProto takes a host agent that names no runtimes for one of microVMs only.
func runtimesFromProto(h *hostv1.GetHostResponse) []control.HostRuntime {
	var out []control.HostRuntime
	for _, r := range h.GetRuntimes() {
		out = append(out, runtimeFromProto(r))
	}
	if len(out) > 0 {
		return out
	}
	return []control.HostRuntime{{
		Runtime: sandbox.RuntimeMicroVM, Driver: h.GetDriver(), DriverVersion: h.GetDriverVersion(),
		Acceleration: h.GetAcceleration(), Reason: h.GetAccelerationReason(),
		Isolation: sandbox.Isolation(h.GetIsolation()), MultiTenant: h.GetMultiTenant(),
	}}
}

func runtimeFromProto(r *hostv1.Runtime) control.HostRuntime {
	return control.HostRuntime{
		Runtime: sandbox.Runtime(r.GetName()), Driver: r.GetDriver(), DriverVersion: r.GetDriverVersion(),
		Acceleration: r.GetAcceleration(), Reason: r.GetReason(),
		Isolation: sandbox.Isolation(r.GetIsolation()), MultiTenant: r.GetMultiTenant(),
		DiskMemoryShare: memoryShare(r.GetDiskMemoryShare()),
	}
}

// memoryShare returns a share that a host reports, within the values that placement can
// multiply and JSON can hold.
func memoryShare(reported float64) float64 {
	const most = 1024
	switch {
	case reported > 0:
		return min(reported, most)
	default: // 0, negative or not a number
		return 0
	}
}

// room returns a value without bound for a host that does not report its room.
func room(reported *uint64) int {
	if reported == nil {
		return math.MaxInt
	}
	return int(min(*reported, math.MaxInt))
}

func poolsFromProto(pools []*hostv1.Pool) []control.Pool {
	out := make([]control.Pool, 0, len(pools))
	for _, p := range pools {
		out = append(out, control.Pool{
			Template: p.GetTemplate(), Runtime: cmp.Or(sandbox.Runtime(p.GetRuntime()), sandbox.RuntimeMicroVM), VCPUs: int(p.GetVcpus()), MemoryMB: int(p.GetMemoryMb()), DiskMB: int(p.GetDiskMb()),
			Target: int(p.GetTarget()), Ready: int(p.GetReady()), Hits: p.GetHits(), Misses: p.GetMisses(),
		})
	}
	return out
}
