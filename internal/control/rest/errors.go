package rest

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/fault/faulthttp"
)

// retryAfterSec is the Retry-After of 429 and 503, in seconds: about the time in
// which another sandbox ends or a host comes back.
const retryAfterSec = 5

// errShuttingDown is the cause with which Serve cancels requests.
var errShuttingDown = fault.New(fault.NoCapacity, "shutting_down", "the server is shutting down")

// reasonInterrupted is the code of an operation that was cancelled, but not by
// its caller.
const reasonInterrupted = "interrupted"

// statusError gives a fault an HTTP status that no kind has.
type statusError struct {
	error
	status int
}

func withStatus(status int, err error) error { return statusError{err, status} }

// Unwrap returns the fault.
func (e statusError) Unwrap() error { return e.error }

// errorJSON is the schema Error.
type errorJSON struct {
	Error errorBody `json:"error"`
}

type errorBody struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	// Details comes last: writeOutput adds to it.
	Details *outputJSON `json:"details,omitempty"`
}

// errorBodyOf returns the public part of err.
func errorBodyOf(err error) errorBody {
	f := fault.As(err)
	return errorBody{Code: f.Reason, Message: f.Public}
}

// statusOf returns err's status.
func statusOf(err error) int {
	var se statusError
	if errors.As(err, &se) {
		return se.status
	}
	return faulthttp.Status(fault.KindOf(err))
}

// withCause replaces a cancellation by its cause: a caller that hung up (499)
// or a server that cancels its requests.
func withCause(ctx context.Context, err error) error {
	if !fault.Is(err, fault.Canceled) {
		return err
	}
	if cause := context.Cause(ctx); errors.Is(cause, errShuttingDown) {
		return cause
	}
	if ctx.Err() == nil {
		return fault.Wrap(err, fault.NoCapacity, reasonInterrupted, "the operation was interrupted; try again")
	}
	return err
}

// fail writes err in the API's one error shape and hands it to the access log.
// Nothing may have been written before.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	s.failWith(w, r, err, nil)
}

// failWith is fail with the output of a command until then, or nil.
func (s *server) failWith(w http.ResponseWriter, r *http.Request, err error, partial *output) {
	err = withCause(r.Context(), err)
	recordError(r.Context(), err)
	status := statusOf(err)
	switch status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", strconv.Itoa(retryAfterSec))
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Bearer realm="wrenn"`)
	}
	body := errorBodyOf(err)
	if partial == nil {
		writeJSON(w, status, errorJSON{body})
		return
	}
	body.Details = &partial.outputJSON
	writeOutput(w, s.paceOf(w), status, errorJSON{body}, "}}}", partial)
}
