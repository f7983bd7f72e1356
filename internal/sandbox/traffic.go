package sandbox

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// MaxPublicPorts is the largest number of ports of one sandbox that can be public.
const MaxPublicPorts = 64

const (
	trafficTokenStart = "trf_"
	envdTokenStart    = "envd_"
	trafficTokenBytes = 20
)

// NewTrafficKey returns a fresh TrafficKey of a spec.
func NewTrafficKey() string {
	var b [trafficTokenBytes]byte
	_, _ = rand.Read(b[:]) // never fails, see crypto/rand
	return hex.EncodeToString(b[:])
}

// TrafficToken returns the token that requests to the ports of the sandbox id need,
// except for public ones. It is empty for a sandbox of a version without tokens. The
// children of a fork share a spec, but not their tokens.
func (s Spec) TrafficToken(id ID) string {
	return s.derived(trafficTokenStart, string(id))
}

// EnvdTokenOf returns the access token of the public server (port 49983) in the guest
// of the sandbox id. It is the same for the life of the sandbox, and empty for a sandbox
// of a version without tokens, whose public server no client can use. The children of a
// fork have tokens of their own.
func (s Spec) EnvdTokenOf(id ID) string {
	return s.derived(envdTokenStart, envdTokenStart+string(id))
}

// derived returns start and digits that only the holder of TrafficKey can compute from
// message. Messages of tokens of two kinds differ.
func (s Spec) derived(start, message string) string {
	if s.TrafficKey == "" {
		return ""
	}
	mac := hmac.New(sha256.New, []byte(s.TrafficKey))
	mac.Write([]byte(message))
	return start + hex.EncodeToString(mac.Sum(nil)[:trafficTokenBytes])
}

// Public reports whether everyone may reach port.
func (s Spec) Public(port uint16) bool { return slices.Contains(s.PublicPorts, int(port)) }

func validatePublicPorts(ports []int) error {
	if len(ports) > MaxPublicPorts || slices.ContainsFunc(ports, func(p int) bool { return p < 1 || p > 65535 }) {
		return fault.New(fault.Invalid, "invalid_public_ports", "public_ports must be at most %d ports from 1 to 65535", MaxPublicPorts)
	}
	return nil
}
