package e2b

import (
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

const (
	// envdVersion is the version of the guest's server that clients go by: the newest
	// one whose features they ask for.
	envdVersion = "0.6.13"
	// clientID is a field that clients require and do not use.
	clientID = "wrenn"
	// noEnd is the time from its creation after which a sandbox without a lifetime says
	// that it ends. The dialect has no form for "never".
	noEnd = 10 * 365 * 24 * time.Hour
)

// sandboxJSON is the schema Sandbox.
type sandboxJSON struct {
	TemplateID   string  `json:"templateID"`
	SandboxID    string  `json:"sandboxID"`
	ClientID     string  `json:"clientID"`
	EnvdVersion  string  `json:"envdVersion"`
	Alias        string  `json:"alias,omitempty"`
	EnvdToken    string  `json:"envdAccessToken,omitempty"`
	TrafficToken *string `json:"trafficAccessToken"`
	Domain       *string `json:"domain"`
}

func (s *server) sandboxOf(row control.Sandbox) sandboxJSON {
	name := templateNameOf(row)
	out := sandboxJSON{
		TemplateID: templateIDOf(row), SandboxID: string(row.ID), ClientID: clientID, EnvdVersion: envdVersion,
		Alias: name, EnvdToken: row.Spec.EnvdTokenOf(row.ID), Domain: s.domain(),
	}
	if token := row.Spec.TrafficToken(row.ID); !row.Spec.PublicTraffic && token != "" {
		out.TrafficToken = &token
	}
	return out
}

// domain is nil if clients shall use their own setting.
func (s *server) domain() *string {
	if s.Domain == "" {
		return nil
	}
	return &s.Domain
}

// The states of the dialect.
const (
	stateRunning = "running"
	statePaused  = "paused"
)

// stateOf returns the state of a sandbox that has not ended. A pause shows at once.
func stateOf(row control.Sandbox) string {
	switch row.State {
	case sandbox.Pausing, sandbox.Paused:
		return statePaused
	default:
		return stateRunning
	}
}

// listedJSON is the schema ListedSandbox.
type listedJSON struct {
	TemplateID   string            `json:"templateID"`
	SandboxID    string            `json:"sandboxID"`
	ClientID     string            `json:"clientID"`
	EnvdVersion  string            `json:"envdVersion"`
	Alias        string            `json:"alias,omitempty"`
	StartedAt    time.Time         `json:"startedAt"`
	EndAt        time.Time         `json:"endAt"`
	CPUCount     int               `json:"cpuCount"`
	MemoryMB     int               `json:"memoryMB"`
	DiskSizeMB   int               `json:"diskSizeMB"`
	State        string            `json:"state"`
	Metadata     map[string]string `json:"metadata"`
	Unresponsive bool              `json:"envdUnresponsiveAtPause,omitempty"`
}

func listedOf(row control.Sandbox) listedJSON {
	out := listedJSON{
		TemplateID: templateIDOf(row), SandboxID: string(row.ID), ClientID: clientID, EnvdVersion: envdVersion,
		Alias: templateNameOf(row), StartedAt: row.CreatedAt, EndAt: endOf(row),
		CPUCount: row.Spec.VCPUs, MemoryMB: row.Spec.MemoryMB, DiskSizeMB: row.Spec.DiskMB,
		State: stateOf(row), Metadata: row.Metadata, Unresponsive: row.Health.Forced,
	}
	if out.Metadata == nil {
		out.Metadata = map[string]string{}
	}
	return out
}

// endOf returns the end of the sandbox's time; that of a paused one is its pause.
func endOf(row control.Sandbox) time.Time {
	switch {
	case stateOf(row) == statePaused:
		return row.UpdatedAt
	case row.LifetimeEndsAt != nil:
		return *row.LifetimeEndsAt
	case row.Spec.Lifetime > 0:
		return row.UpdatedAt.Add(row.Spec.Lifetime) // its start is not committed yet
	default:
		return row.CreatedAt.Add(noEnd)
	}
}

// detailJSON is the schema SandboxDetail.
type detailJSON struct {
	listedJSON
	EnvdToken     string        `json:"envdAccessToken,omitempty"`
	Domain        *string       `json:"domain"`
	AllowInternet bool          `json:"allowInternetAccess"`
	Network       networkJSON   `json:"network"`
	Lifecycle     lifecycleJSON `json:"lifecycle"`
	PauseMode     string        `json:"pauseMode,omitempty"`
}

type lifecycleJSON struct {
	AutoResume bool   `json:"autoResume"`
	OnTimeout  string `json:"onTimeout"`
}

// networkJSON is the schema SandboxNetworkConfig.
type networkJSON struct {
	AllowPublicTraffic bool     `json:"allowPublicTraffic"`
	AllowOut           []string `json:"allowOut"`
	DenyOut            []string `json:"denyOut"`
	MaskRequestHost    string   `json:"maskRequestHost,omitempty"`
	HTTPSPorts         []int    `json:"httpsPorts,omitempty"`
}

func (s *server) detailOf(row control.Sandbox) detailJSON {
	deny, allow := row.Spec.Egress.Strings()
	out := detailJSON{
		listedJSON: listedOf(row), EnvdToken: row.Spec.EnvdTokenOf(row.ID), Domain: s.domain(), AllowInternet: !row.Spec.Egress.DeniesAll(),
		Network: networkJSON{
			AllowPublicTraffic: row.Spec.PublicTraffic, AllowOut: addressesOf(allow), DenyOut: addressesOf(deny),
			MaskRequestHost: row.Spec.RequestHost, HTTPSPorts: row.Spec.HTTPSPorts,
		},
		Lifecycle: lifecycleJSON{AutoResume: row.Spec.AutoResume, OnTimeout: "kill"},
	}
	if row.Spec.OnTimeout == sandbox.TimeoutPause {
		out.Lifecycle.OnTimeout = "pause"
	}
	if row.State == sandbox.Paused {
		out.PauseMode = "full"
		if row.DiskOnly {
			out.PauseMode = "filesystem"
		}
	}
	return out
}
