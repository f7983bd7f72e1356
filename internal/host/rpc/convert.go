package rpc

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	hostv1 "github.com/wrenn-dev/wrenn/api/gen/host/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host"
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

func toSpec(s *hostv1.SandboxSpec) sandbox.Spec {
	return sandbox.Spec{
		Template: s.GetTemplate(), VCPUs: int(s.GetVcpus()), MemoryMB: int(s.GetMemoryMb()), DiskMB: int(s.GetDiskMb()),
		Timeout: time.Duration(s.GetTimeoutSec()) * time.Second, Env: s.GetEnv(),
		MinIsolation: sandbox.Isolation(s.GetMinIsolation()),
	}.WithDefaults()
}

// fromSpec leaves the environment out: it is secret, the control plane does not
// ask for it, and a list of many would outgrow a message.
func fromSpec(s sandbox.Spec) *hostv1.SandboxSpec {
	return &hostv1.SandboxSpec{
		Template: s.Template, Vcpus: uint32(s.VCPUs), MemoryMb: uint32(s.MemoryMB), DiskMb: uint32(s.DiskMB),
		TimeoutSec: uint32(s.Timeout / time.Second), MinIsolation: string(s.MinIsolation),
	}
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
		StepMicros: make(map[string]int64, len(s.Steps)),
	}
	for name, d := range s.Steps {
		out.StepMicros[name] = d.Microseconds()
	}
	return out
}

func fromTime(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func fromInfo(i host.Info) *hostv1.GetHostResponse {
	return &hostv1.GetHostResponse{
		HostId: i.HostID, AgentVersion: i.AgentVersion, GuestVersion: i.GuestVersion,
		Driver: i.VMM.Driver, DriverVersion: i.VMM.Version,
		Acceleration: string(i.VMM.Acceleration), AccelerationReason: i.VMM.Reason,
		Isolation: string(i.Isolation), MultiTenant: i.VMM.MultiTenant, KernelRelease: i.KernelRelease,
		VcpusTotal: uint32(i.VCPUs), MemoryMbTotal: uint32(i.MemoryMB),
		DiskBytesTotal: i.DiskTotal, DiskBytesFree: i.DiskFree,
		MaxVcpus: uint32(i.Limits.MaxVCPUs), MaxMemoryMb: uint32(i.Limits.MaxMemoryMB), MinMemoryMb: uint32(i.Limits.MinMemoryMB),
		Templates: i.Templates, Draining: i.Draining, BootRetries: i.BootRetries,
	}
}
