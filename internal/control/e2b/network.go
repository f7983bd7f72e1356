package e2b

import (
	"encoding/json"
	"net/http"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// networkConfig is the schema SandboxNetworkConfig, and with allow_internet_access
// SandboxNetworkUpdateConfig. Hosts have no rules for the outgoing traffic of one
// sandbox, so that every field that would need them is refused.
type networkConfig struct {
	AllowPublicTraffic *bool           `json:"allowPublicTraffic"`
	AllowInternet      *bool           `json:"allow_internet_access"`
	AllowOut           []string        `json:"allowOut"`
	DenyOut            []string        `json:"denyOut"`
	DNSServers         []string        `json:"dnsServers"`
	EgressProxy        json.RawMessage `json:"egressProxy"`
	Rules              json.RawMessage `json:"rules"`
	MaskRequestHost    string          `json:"maskRequestHost"`
	HTTPSPorts         []int           `json:"httpsPorts"`
}

// public reports whether everyone may reach the sandbox's ports. It is the default.
func (c *networkConfig) public() bool { return c == nil || isOn(c.AllowPublicTraffic, true) }

// requestHost returns the Host header that programs get, or "" for that of the client.
func (c *networkConfig) requestHost() string {
	if c == nil {
		return ""
	}
	return c.MaskRequestHost
}

// unsupported refuses the fields that no host can carry out.
func (c *networkConfig) unsupported() error {
	if c == nil {
		return nil
	}
	for _, f := range []struct {
		name  string
		given bool
	}{
		{"allow_internet_access: false", !isOn(c.AllowInternet, true)},
		{"network.allowOut", len(c.AllowOut) > 0},
		{"network.denyOut", len(c.DenyOut) > 0},
		{"network.dnsServers", len(c.DNSServers) > 0},
		{"network.egressProxy", given(c.EgressProxy)},
		{"network.rules", given(c.Rules)},
	} {
		if f.given {
			return noEgressRules(f.name)
		}
	}
	if len(c.HTTPSPorts) > 0 {
		return invalid("network.httpsPorts is not supported: programs are reached over HTTP without TLS")
	}
	return nil
}

func noEgressRules(field string) error {
	return invalid("%s is not supported: sandboxes reach every public address and no private one, and this cannot be changed for one sandbox", field)
}

// updateNetwork replaces the rules for outgoing traffic. The only ones that there are
// here are the default ones.
func (s *server) updateNetwork(w http.ResponseWriter, r *http.Request) error {
	row, err := s.live(r)
	if err != nil {
		return err
	}
	var in networkConfig
	if err := readJSON(w, r, &in); err != nil {
		return err
	}
	if err := in.unsupported(); err != nil {
		return err
	}
	if row.State != sandbox.Running {
		return refuse(http.StatusConflict, "", "sandbox %s is %s; resume it first", row.ID, stateOf(row))
	}
	return done(w)
}
