// Package hostwire converts between the domain's types and the messages of
// host.v1, for both ends of the connection: hostclient and host/rpc. A field
// that one end sends is then one that the other end reads. It validates
// nothing.
package hostwire

import (
	"net/netip"
	"time"

	hostv1 "github.com/wrenn-dev/wrenn/api/gen/host/v1"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// SpecToProto returns the message of s. It leaves out AutoResume, the
// settings of traffic and the template, which the host does not need. Durations are rounded up to seconds, because zero means
// never.
func SpecToProto(s sandbox.Spec) *hostv1.SandboxSpec {
	deny, allow := s.Egress.Strings()
	return &hostv1.SandboxSpec{
		Template: s.Template, Vcpus: uint32(s.VCPUs), MemoryMb: uint32(s.MemoryMB), DiskMb: uint32(s.DiskMB),
		TimeoutSec: seconds(s.Timeout), LifetimeSec: seconds(s.Lifetime), OnTimeout: string(s.OnTimeout),
		Env: s.Env, MinIsolation: string(s.MinIsolation), Hostname: s.Hostname, Runtime: string(s.Runtime),
		EnvdToken: s.EnvdToken, EgressDeny: deny, EgressAllow: allow, User: s.User, Workdir: s.Workdir, PauseDiskOnly: s.PauseDiskOnly,
	}
}

// SpecFromProto returns the spec in s; nil is the zero Spec.
func SpecFromProto(s *hostv1.SandboxSpec) sandbox.Spec {
	return sandbox.Spec{
		Template: s.GetTemplate(), VCPUs: int(s.GetVcpus()), MemoryMB: int(s.GetMemoryMb()), DiskMB: int(s.GetDiskMb()),
		Timeout: time.Duration(s.GetTimeoutSec()) * time.Second, Lifetime: time.Duration(s.GetLifetimeSec()) * time.Second,
		OnTimeout: sandbox.TimeoutAction(s.GetOnTimeout()),
		Env:       s.GetEnv(), MinIsolation: sandbox.Isolation(s.GetMinIsolation()), Hostname: s.GetHostname(),
		Runtime: sandbox.Runtime(s.GetRuntime()), EnvdToken: s.GetEnvdToken(),
		User: s.GetUser(), Workdir: s.GetWorkdir(),
		Egress: EgressFromProto(s.GetEgressDeny(), s.GetEgressAllow()), PauseDiskOnly: s.GetPauseDiskOnly(),
	}
}

// EgressFromProto returns the limits with these ranges.
func EgressFromProto(deny, allow []string) sandbox.Egress {
	return sandbox.Egress{Deny: rangesOf(deny), Allow: rangesOf(allow)}
}

// rangesOf returns the ranges in texts. A text that is none becomes the invalid range,
// which sandbox.Spec.Validate refuses.
func rangesOf(texts []string) (ranges []netip.Prefix) {
	for _, text := range texts {
		r, _ := netip.ParsePrefix(text)
		ranges = append(ranges, r)
	}
	return ranges
}

func seconds(d time.Duration) uint32 { return uint32((d + time.Second - 1) / time.Second) }
