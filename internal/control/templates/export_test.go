package templates

import (
	"testing"
	"time"
)

// SetRetryDelay changes the time before another attempt for one test.
func SetRetryDelay(t *testing.T, d time.Duration) {
	t.Helper()
	old := retryDelay
	retryDelay = d
	t.Cleanup(func() { retryDelay = old })
}
