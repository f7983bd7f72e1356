package sandbox

import "time"

// HealthState says whether a sandbox's guest answers its host.
type HealthState string

// The states of a guest's health.
const (
	HealthOK           HealthState = "ok"
	HealthUnresponsive HealthState = "unresponsive"
)

// Health describes a sandbox's guest as the host last found it. It says
// nothing about the VM, which may run well while its guest does not answer. The
// zero value is for a sandbox that neither runs nor is paused.
type Health struct {
	State HealthState
	// Since is when the guest was first found not to answer; zero while it does.
	Since time.Time
	// Forced says that the sandbox was paused without the guest's help, and
	// that its guest has not been renewed since.
	Forced bool
}
