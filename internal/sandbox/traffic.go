package sandbox

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// EnvdPort is the port of the guest's public server, which checks its own token. It is
// part of the protocol of that server's clients.
const EnvdPort = 49983

// MaxPublicPorts is the largest number of ports of one sandbox that can be public.
const MaxPublicPorts = 64

// MaxHTTPSPorts is the largest number of HTTPSPorts of one sandbox.
const MaxHTTPSPorts = 64

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
func (s Spec) Public(port uint16) bool {
	return s.PublicTraffic || slices.Contains(s.PublicPorts, int(port))
}

// SpeaksTLS reports whether the program on port speaks TLS itself.
func (s Spec) SpeaksTLS(port uint16) bool { return slices.Contains(s.HTTPSPorts, int(port)) }

// placeholderPort stands for the number of the port in RequestHost.
const placeholderPort = "${PORT}"

// RequestHostOf returns the Host header of requests to port, or "" for that of the
// client.
func (s Spec) RequestHostOf(port uint16) string {
	return strings.ReplaceAll(s.RequestHost, placeholderPort, strconv.Itoa(int(port)))
}

// maxRequestHost bounds RequestHost, in bytes: a DNS name with a port and the braces.
const maxRequestHost = 270

// requestHost is a name or an address, with a port.
var requestHost = regexp.MustCompile(`^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])?(:[0-9]{1,5})?$`)

func validateTraffic(s Spec) error {
	noPort := func(p int) bool { return p < 1 || p > 65535 }
	if len(s.PublicPorts) > MaxPublicPorts || slices.ContainsFunc(s.PublicPorts, noPort) {
		return fault.New(fault.Invalid, "invalid_public_ports", "public_ports must be at most %d ports from 1 to 65535", MaxPublicPorts)
	}
	if len(s.HTTPSPorts) > MaxHTTPSPorts || slices.ContainsFunc(s.HTTPSPorts, noPort) || s.SpeaksTLS(EnvdPort) {
		return fault.New(fault.Invalid, "invalid_https_ports",
			"the ports whose programs speak TLS must be at most %d from 1 to 65535, without %d", MaxHTTPSPorts, EnvdPort)
	}
	if len(s.RequestHost) > maxRequestHost || !requestHost.MatchString(s.RequestHostOf(1)) {
		return fault.New(fault.Invalid, "invalid_request_host",
			"the host of requests must be a name or an address, which may have a port and hold %s, not %q", placeholderPort, s.RequestHost)
	}
	return nil
}
