package hostclient

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	hostv1 "github.com/wrenn-dev/wrenn/api/gen/host/v1"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

func refToProto(r sandbox.Ref) *hostv1.Ref {
	return &hostv1.Ref{Id: string(r.ID), Generation: uint64(r.Generation)}
}

func refFromProto(r *hostv1.Ref) sandbox.Ref {
	return sandbox.Ref{ID: sandbox.ID(r.GetId()), Generation: sandbox.Generation(r.GetGeneration())}
}

func specToProto(s sandbox.Spec) *hostv1.SandboxSpec {
	return &hostv1.SandboxSpec{
		Template: s.Template, Vcpus: uint32(s.VCPUs), MemoryMb: uint32(s.MemoryMB), DiskMb: uint32(s.DiskMB),
		// Rounded up: zero means never.
		TimeoutSec: uint32((s.Timeout + time.Second - 1) / time.Second),
		Env:        s.Env, MinIsolation: string(s.MinIsolation),
	}
}

func specFromProto(s *hostv1.SandboxSpec) sandbox.Spec {
	return sandbox.Spec{
		Template: s.GetTemplate(), VCPUs: int(s.GetVcpus()), MemoryMB: int(s.GetMemoryMb()), DiskMB: int(s.GetDiskMb()),
		Timeout: time.Duration(s.GetTimeoutSec()) * time.Second,
		Env:     s.GetEnv(), MinIsolation: sandbox.Isolation(s.GetMinIsolation()),
	}
}

var viewStateOf = map[hostv1.SandboxState]control.ViewState{
	hostv1.SandboxState_SANDBOX_STATE_STARTING: control.ViewStarting,
	hostv1.SandboxState_SANDBOX_STATE_RUNNING:  control.ViewRunning,
	hostv1.SandboxState_SANDBOX_STATE_PAUSING:  control.ViewPausing,
	hostv1.SandboxState_SANDBOX_STATE_PAUSED:   control.ViewPaused,
	hostv1.SandboxState_SANDBOX_STATE_RESUMING: control.ViewResuming,
	hostv1.SandboxState_SANDBOX_STATE_STOPPING: control.ViewStopping,
	hostv1.SandboxState_SANDBOX_STATE_STOPPED:  control.ViewStopped,
}

// viewFromProto takes a state that it does not know, of a host newer than this
// client, for one in motion: nothing is concluded from it.
func viewFromProto(s *hostv1.Sandbox) control.View {
	v := control.View{
		Ref: refFromProto(s.GetRef()), Spec: specFromProto(s.GetSpec()),
		State: control.ViewStarting, StopReason: sandbox.StopReason(s.GetStopReason()),
		Facts: control.Facts{
			GuestIP: s.GetGuestIp(), HostIP: s.GetHostIp(), Acceleration: s.GetAcceleration(),
			Isolation: sandbox.Isolation(s.GetIsolation()), StartedAt: timeFromProto(s.GetStartedAt()),
		},
		LastActiveAt:   timeFromProto(s.GetLastActiveAt()),
		TemplateDigest: s.GetTemplateDigest(),
		Steps:          make(map[string]time.Duration, len(s.GetStepMicros())),
	}
	if state, ok := viewStateOf[s.GetState()]; ok {
		v.State = state
	}
	for name, micros := range s.GetStepMicros() {
		v.Steps[name] = time.Duration(micros) * time.Microsecond
	}
	return v
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
		Driver: h.GetDriver(), DriverVersion: h.GetDriverVersion(),
		Acceleration: h.GetAcceleration(), AccelerationReason: h.GetAccelerationReason(),
		Isolation: sandbox.Isolation(h.GetIsolation()), MultiTenant: h.GetMultiTenant(),
		KernelRelease: h.GetKernelRelease(), VCPUs: int(h.GetVcpusTotal()), MemoryMB: int(h.GetMemoryMbTotal()),
		DiskTotal: h.GetDiskBytesTotal(), DiskFree: h.GetDiskBytesFree(),
		Limits: sandbox.Limits{
			MaxVCPUs: int(h.GetMaxVcpus()), MinMemoryMB: int(h.GetMinMemoryMb()), MaxMemoryMB: int(h.GetMaxMemoryMb()),
		},
		Templates: h.GetTemplates(), Draining: h.GetDraining(), BootRetries: h.GetBootRetries(),
	}
}
