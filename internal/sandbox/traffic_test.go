package sandbox_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

func TestTrafficToken(t *testing.T) {
	spec := sandbox.Spec{TrafficKey: sandbox.NewTrafficKey()}
	token := spec.TrafficToken("a")
	switch {
	case len(token) != len("trf_")+40:
		t.Errorf("the token is %q, want trf_ and 40 digits", token)
	case token != spec.TrafficToken("a"):
		t.Error("the token changes from call to call")
	case token == spec.TrafficToken("b"):
		t.Error("two sandboxes with one key have one token")
	}
	if got := (sandbox.Spec{}).TrafficToken("a"); got != "" {
		t.Errorf("a sandbox without a key has the token %q", got)
	}
	copied := spec.Copied(nil)
	if copied.TrafficKey != "" {
		t.Error("a copy of a sandbox keeps its traffic key")
	}
}

func TestEnvdToken(t *testing.T) {
	spec := sandbox.Spec{TrafficKey: sandbox.NewTrafficKey()}
	token := spec.EnvdTokenOf("a")
	switch {
	case len(token) != len("envd_")+40:
		t.Errorf("the token is %q, want envd_ and 40 digits", token)
	case token != spec.EnvdTokenOf("a"):
		t.Error("the token changes from call to call")
	case token == spec.EnvdTokenOf("b"):
		t.Error("two sandboxes with one key have one token")
	case strings.HasSuffix(spec.TrafficToken("a"), token[len("envd_"):]):
		t.Error("the traffic token contains the token of the public server")
	}
	if got := (sandbox.Spec{}).EnvdTokenOf("a"); got != "" {
		t.Errorf("a sandbox without a key has the token %q", got)
	}
	spec.EnvdToken = token
	if spec.Copied(nil).EnvdToken != "" {
		t.Error("a copy of a sandbox keeps the token of its public server")
	}
}

func TestRequestHost(t *testing.T) {
	for host, want := range map[string]string{
		"": "", "localhost": "localhost", "localhost:${PORT}": "localhost:3000", "${PORT}-x.test": "3000-x.test", "[::1]:${PORT}": "[::1]:3000",
	} {
		spec := sandbox.Spec{MemoryMB: 512, RequestHost: host}.WithDefaults()
		if err := spec.Validate(); err != nil || spec.RequestHostOf(3000) != want {
			t.Errorf("%q: got %q, %v; want %q", host, spec.RequestHostOf(3000), err, want)
		}
	}
	for _, host := range []string{"a b", "a\r\nX: y", "a/b", "${HOST}", "a:b", strings.Repeat("a", 300), "[::1"} {
		spec := sandbox.Spec{MemoryMB: 512, RequestHost: host}.WithDefaults()
		if err := spec.Validate(); fault.ReasonOf(err) != "invalid_request_host" {
			t.Errorf("%q: %v, want invalid_request_host", host, err)
		}
	}
}

func TestHTTPSPorts(t *testing.T) {
	spec := sandbox.Spec{MemoryMB: 512, HTTPSPorts: []int{443, 65535}}.WithDefaults()
	if err := spec.Validate(); err != nil || !spec.SpeaksTLS(443) || spec.SpeaksTLS(80) {
		t.Errorf("ports 443 and 65535: %v, 443 with TLS %t, 80 with TLS %t", err, spec.SpeaksTLS(443), spec.SpeaksTLS(80))
	}
	for _, ports := range [][]int{{0}, {65536}, {-1}, {443, sandbox.EnvdPort}, slices.Repeat([]int{443}, 65)} {
		spec := sandbox.Spec{MemoryMB: 512, HTTPSPorts: ports}.WithDefaults()
		if err := spec.Validate(); fault.ReasonOf(err) != "invalid_https_ports" {
			t.Errorf("%v: %v, want invalid_https_ports", ports, err)
		}
	}
}

func TestPublicPorts(t *testing.T) {
	spec := sandbox.Spec{MemoryMB: 512, PublicPorts: []int{80, 65535}}.WithDefaults()
	if err := spec.Validate(); err != nil || !spec.Public(80) || spec.Public(81) {
		t.Errorf("ports 80 and 65535: %v, 80 public %t, 81 public %t", err, spec.Public(80), spec.Public(81))
	}
	for _, ports := range [][]int{{0}, {65536}, {-1}, make([]int, 65)} {
		spec.PublicPorts = ports
		if err := spec.Validate(); fault.ReasonOf(err) != "invalid_public_ports" {
			t.Errorf("%v: %v, want invalid_public_ports", ports, err)
		}
	}
}
