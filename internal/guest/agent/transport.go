package agent

import (
	"errors"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Limits that both transports keep.
const (
	// MaxMessageBytes is the size of the largest message.
	MaxMessageBytes = 4 << 20
	// OpeningTimeLimit is how long a new connection may take to send the start of
	// its first call.
	OpeningTimeLimit = 10 * time.Second
	// IdleTimeLimit is how long a connection may stay open between two calls.
	IdleTimeLimit = 2 * time.Minute
	// UploadIdleLimit is how long an upload may make no progress.
	UploadIdleLimit = 2 * time.Minute
	// CutOffGrace is how long a call that is cut off at the end of its epoch may
	// take to send its failure.
	CutOffGrace = 200 * time.Millisecond
)

// UploadFault classifies an error from reading the content of an upload: it is
// the sender's, Invalid broken_upload, unless it is a fault already.
func UploadFault(err error) error {
	var known *fault.Error
	if errors.As(err, &known) {
		return err
	}
	return fault.Wrap(err, fault.Invalid, "broken_upload", "the request body ended early or is malformed")
}
