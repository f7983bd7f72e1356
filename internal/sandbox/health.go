package sandbox

import "time"

// HealthState tells whether a sandbox's guest answers its host.
type HealthState string

// The states of a guest's health.
const (
	HealthOK           HealthState = "ok"
	HealthUnresponsive HealthState = "unresponsive"
)

// Health describes a sandbox's guest by the host's last observation. It does
// not describe the VM, which may run well while its guest does not answer. The
// zero value is for a sandbox that neither runs nor is paused.
type Health struct {
	State HealthState
	// Since is the time since which the guest does not answer; zero while it
	// answers.
	Since time.Time
	// Forced tells that the sandbox was paused without the guest's help, and
	// that its guest has not been renewed since.
	Forced bool
}
