package e2b

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/fault/faulthttp"
)

// The error_code words that clients read.
const (
	wordNoCapacity   = "sandbox_capacity_unavailable"
	wordCreateFailed = "sandbox_create_failed"
	wordPlacement    = "sandbox_placement_timeout"
	wordInternal     = "internal_server_error"
	wordInFlight     = "sandbox_start_in_flight"
	wordDiskOnly     = "snapshot_filesystem_only_unsupported_node"
	wordUnresponsive = "sandbox_snapshot_guest_agent_unresponsive"
	wordMismatch     = "idempotency_request_mismatch"
	wordInProgress   = "idempotency_in_progress"
	wordUnknown      = "idempotency_outcome_unknown"
)

// retryAfterSec is the Retry-After of 429 and 5xx, in seconds.
const retryAfterSec = 2

// refusal is an answer of the dialect that no fault has.
type refusal struct {
	status  int
	word    string // error_code, or empty
	message string
}

// Error implements error.
func (f *refusal) Error() string { return f.message }

func refuse(status int, word, format string, args ...any) error {
	return &refusal{status, word, fmt.Sprintf(format, args...)}
}

// invalid is the answer to a request with a wrong value.
func invalid(format string, args ...any) error {
	return refuse(http.StatusBadRequest, "", format, args...)
}

// errorJSON is the schema Error.
type errorJSON struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Word    string `json:"error_code,omitempty"`
}

// errorOf returns the form of err.
func errorOf(ctx context.Context, err error) errorJSON {
	var own *refusal
	if errors.As(err, &own) {
		return errorJSON{own.status, own.message, own.word}
	}
	f := fault.As(err)
	out := errorJSON{Code: faulthttp.Status(f.Kind), Message: f.Public}
	switch {
	case f.Kind == fault.Canceled && ctx.Err() == nil:
		out.Code, out.Message = http.StatusServiceUnavailable, "the operation was interrupted; try again"
	case f.Kind == fault.NoCapacity:
		out.Word = wordNoCapacity
	case f.Kind == fault.Timeout:
		out.Word = wordPlacement
	case f.Kind == fault.HostFailed:
		// Clients take a 502 for an answer of a sandbox that has gone.
		out.Code, out.Word = http.StatusInternalServerError, wordCreateFailed
	case f.Kind == fault.Internal:
		out.Word = wordInternal
	}
	return out
}

// fail answers with err. Nothing may have been written before.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	recordError(r.Context(), err)
	body := errorOf(r.Context(), err)
	h := w.Header()
	if body.Code == http.StatusTooManyRequests || body.Code >= http.StatusInternalServerError {
		retry := mayRepeat(r, err, body.Code)
		h.Set("Should-Retry", strconv.FormatBool(retry))
		h.Set("Retry-After", strconv.Itoa(retryAfterSec))
	}
	writeJSON(w, body.Code, body)
}

// mayRepeat reports whether a client can send r again without a second effect. A refusal
// for want of room has had none; after other failures a create may have made a sandbox.
func mayRepeat(r *http.Request, err error, status int) bool {
	switch kind := fault.KindOf(err); {
	case status == http.StatusNotImplemented || kind == fault.Quota:
		return false
	case kind == fault.NoCapacity || kind == fault.Unavailable:
		return true
	default:
		return r.Method != http.MethodPost
	}
}

// writeJSON writes v with status. It ignores errors, which mean that the client has
// hung up.
func writeJSON(w http.ResponseWriter, status int, v any) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v)
}

// done answers that there is nothing to say.
func done(w http.ResponseWriter) error {
	w.WriteHeader(http.StatusNoContent)
	return nil
}
