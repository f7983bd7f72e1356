package templates

import (
	"testing"
	"time"
)

// SetRetryDelay changes the time before another attempt for one test.
func SetRetryDelay(t *testing.T, d time.Duration) { change(t, &retryDelay, d) }

// SetMaintainInterval changes the time between two rounds of the maintenance for one test.
func SetMaintainInterval(t *testing.T, d time.Duration) { change(t, &maintainInterval, d) }

// SetTouchInterval changes the time between two signs of activity for one test.
func SetTouchInterval(t *testing.T, d time.Duration) { change(t, &touchInterval, d) }

// SetHostWait changes how long a build waits for hosts for one test.
func SetHostWait(t *testing.T, d time.Duration) { change(t, &hostWait, d) }

// MaxResumes is how often a server carries on a build of its own.
const MaxResumes = maxResumes

// MaxAttempts is how often a build is tried.
const MaxAttempts = maxAttempts

// change sets a duration until the end of a test, which runs no other one beside it. It must be
// called before the test starts a server.
func change(t *testing.T, of *time.Duration, d time.Duration) {
	t.Helper()
	old := *of
	*of = d
	t.Cleanup(func() { *of = old })
}
