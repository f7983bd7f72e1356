package e2b

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// networkConfig is the schema SandboxNetworkConfig, and with allow_internet_access
// SandboxNetworkUpdateConfig. Hosts limit the outgoing traffic of a sandbox by address.
// Every field that needs more is refused.
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

// httpsPorts returns the ports whose programs speak TLS themselves.
func (c *networkConfig) httpsPorts() []int {
	if c == nil {
		return nil
	}
	return c.HTTPSPorts
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
		{"network.dnsServers", len(c.DNSServers) > 0},
		{"network.egressProxy", given(c.EgressProxy)},
		{"network.rules", given(c.Rules)},
	} {
		if f.given {
			return invalid("%s is not supported: outgoing traffic can be limited by address only, with allowOut and denyOut", f.name)
		}
	}
	return nil
}

// everyAddress is the range of all IPv4 addresses.
const everyAddress = "0.0.0.0/0"

// egress returns the limits that c and the field allow_internet_access ask for. Exceptions
// without a denied address change nothing.
func (c *networkConfig) egress(internet bool) (sandbox.Egress, error) {
	var deny, allow []string
	if c != nil {
		deny, allow = c.DenyOut, c.AllowOut
		internet = internet && isOn(c.AllowInternet, true)
	}
	if !internet && !slices.Contains(deny, everyAddress) {
		deny = append(slices.Clone(deny), everyAddress)
	}
	limits, err := sandbox.ParseEgress(deny, allow)
	if err != nil {
		return sandbox.Egress{}, invalid("denyOut and allowOut take IPv4 addresses and ranges, and no host names: %s", fault.As(err).Public)
	}
	if !limits.Limited() {
		limits.Allow = nil
	}
	return limits, nil
}

// addressesOf writes ranges as the dialect does: a single address has no length.
func addressesOf(ranges []string) []string {
	for i := range ranges {
		ranges[i] = strings.TrimSuffix(ranges[i], "/32")
	}
	return ranges
}

// updateNetwork replaces the limits of outgoing traffic; fields that are not given take
// their limits away.
func (s *server) updateNetwork(w http.ResponseWriter, r *http.Request) error {
	row, err := s.live(r)
	if err != nil {
		return err
	}
	var in networkConfig
	if err := readJSON(w, r, &in); err != nil {
		return err
	}
	if err := in.updatable(); err != nil {
		return err
	}
	limits, err := in.egress(true)
	if err != nil {
		return err
	}
	if row.State != sandbox.Running {
		return refuse(http.StatusConflict, "", "sandbox %s is %s; resume it first", row.ID, stateOf(row))
	}
	if _, err := s.Sandboxes.SetEgress(r.Context(), row.ID, limits); err != nil {
		return err
	}
	return done(w)
}

// updatable refuses the fields that an update cannot change.
func (c *networkConfig) updatable() error {
	for _, f := range []struct {
		name  string
		given bool
	}{
		{"allowPublicTraffic", c.AllowPublicTraffic != nil},
		{"maskRequestHost", c.MaskRequestHost != ""},
		{"httpsPorts", c.HTTPSPorts != nil},
	} {
		if f.given {
			return invalid("%s cannot be changed after the create", f.name)
		}
	}
	return c.unsupported()
}
