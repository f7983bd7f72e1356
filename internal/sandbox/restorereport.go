package sandbox

import "time"

// RestoreReport lists the steps and measurements that made a restored VM correct and
// unique before any user code ran in it. A start whose
// restore report is not complete fails.
type RestoreReport struct {
	// At is the time of completion, Generation the generation of the sandbox.
	At         time.Time
	Generation Generation
	// ClockStep is the difference of the guest's wall clock from the host's
	// before the correction, ClockSkew the difference measured afterwards.
	// Positive means that the guest's clock was ahead.
	ClockStep, ClockSkew time.Duration
	// Reseeded: the guest's kernel confirmed fresh entropy and a new key.
	Reseeded bool
	// NewIdentity: host name, machine id and boot id are new (clones, forks).
	NewIdentity bool
	// TokenReplaced: the access token inside the guest is a new one.
	TokenReplaced bool
	// NetworkAnswers: a request and its answer crossed the sandbox's network.
	NetworkAnswers bool
	// VMGeneration names the device that announced the clone to the guest's kernel: "vmgenid"
	// where the VM has that device, else "none".
	VMGeneration string
	// ConnectionsClosed counts TCP connections of the snapshot that were closed.
	ConnectionsClosed int
	// Steps holds the duration of each step, by name.
	Steps map[string]time.Duration
}
