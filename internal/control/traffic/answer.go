package traffic

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/fault/faulthttp"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Reasons of refusals. They are part of the API.
const (
	reasonInvalid       = "invalid_traffic_address"
	reasonToken         = "traffic_token_required"
	reasonConnections   = "too_many_connections"
	reasonTransition    = "sandbox_in_transition"
	reasonInvalidAnswer = "invalid_answer"
)

// Sentences in which clients look for words.
const (
	notFound   = "The sandbox was not found"
	notOpen    = "The sandbox is running but port is not open"
	transition = "The sandbox is still transitioning. Try again in a moment."
)

// retryAfterSec is the Retry-After of 429 and 503, in seconds.
const retryAfterSec = "5"

// headerReason is the header with the reason of a refusal.
const headerReason = "Wrenn-Error-Reason"

// refusal is the body of an answer that is not the program's: that of E2B's proxy, with
// the error of our API beside it, unless the request had the form of E2B's clients.
type refusal struct {
	SandboxID string `json:"sandboxId"`
	Message   string `json:"message"`
	Port      uint16 `json:"port,omitempty"`
	Code      int    `json:"code"`
	// ConnectionLimit is set for code 429.
	ConnectionLimit int        `json:"connectionLimit,omitempty"`
	Error           *errorBody `json:"error,omitempty"`
}

type errorBody struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// refuse answers with err, the failure of a request for t.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, t target, err error) {
	f := fault.As(err)
	if f.Reason == reasonInvalid {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		http.Error(w, f.Public, http.StatusBadRequest)
		return
	}
	body := refusal{SandboxID: string(t.id), Code: faulthttp.Status(f.Kind), Message: f.Public}
	if t.form != byHeaders {
		body.Error = &errorBody{f.Reason, f.Public}
	}
	switch {
	case f.Reason == reasonTransition:
		body.Message = transition
	case f.Kind == fault.NotFound || f.Kind == fault.WrongState:
		body.Code, body.Message = http.StatusBadGateway, notFound
	case f.Reason == control.ReasonPortRefused:
		body.Message, body.Port = notOpen, t.port
	case f.Reason == reasonConnections:
		body.ConnectionLimit = h.limitOf(t.caller)
	}
	switch body.Code {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", retryAfterSec)
	case http.StatusInternalServerError:
		h.Log.ErrorContext(r.Context(), "a request to a port failed", "sandbox", t.id, "port", strconv.Itoa(int(t.port)), "error", err)
	}
	header := w.Header()
	header.Set(headerReason, f.Reason)
	if t.form != byPath {
		// The scripts of pages of other origins may read it: it says nothing of a program.
		header.Set("Access-Control-Allow-Origin", "*")
	}
	header.Set("Content-Type", "application/json; charset=utf-8")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	text, err := json.Marshal(body)
	if err != nil {
		panic(err) // it has texts and numbers only
	}
	text = append(text, '\n')
	// The length ends the answer, also if the request's body is not read.
	header.Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(body.Code)
	_, _ = w.Write(text) // an error means that the client has gone
}

// unreachable returns an error if no request, with any credentials, can reach row's
// sandbox.
func unreachable(row control.Sandbox) error {
	switch {
	case row.State == sandbox.Stopping || row.State.Ended():
		return fault.New(fault.WrongState, control.ReasonEnded, "sandbox %s has ended; create another", row.ID)
	case row.Spec.AutoResume:
		return nil
	case row.State == sandbox.Paused:
		return fault.New(fault.WrongState, control.ReasonNotRunning,
			"sandbox %s is paused; resume it, or create it with auto_resume", row.ID)
	case row.State != sandbox.Running:
		return fault.New(fault.WrongState, reasonTransition, "sandbox %s is %s; try again in a moment", row.ID, row.State)
	default:
		return nil
	}
}
