package client

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// maxErrorBody bounds, in bytes, the body of an answer that reports a failure. It
// has room for the output that exec_timeout brings.
const maxErrorBody = 64 << 20

// Error is a failure that the server reported.
type Error struct {
	// Status is the HTTP status. It is 0 when the failure came within a
	// stream, after its answer had begun.
	Status int
	// Code is stable and meant for programs: "sandbox_not_found". It is empty
	// when the answer was not the API's, as from a proxy in between.
	Code string
	// Message is a sentence for people.
	Message string
	// RequestID identifies the request in the server's log.
	RequestID string
	// RetryAfter is the time to wait before a retry; 0 if the server gave none.
	RetryAfter time.Duration
	// Partial is the output of an Exec's command until it was killed. It is nil
	// except with the code "exec_timeout".
	Partial *ExecResult
}

// Error returns the message with the code and the request id.
func (e *Error) Error() string {
	switch {
	case e.Code != "" && e.RequestID != "":
		return fmt.Sprintf("%s (%s, %s)", e.Message, e.Code, e.RequestID)
	case e.Code != "":
		return fmt.Sprintf("%s (%s)", e.Message, e.Code)
	default:
		return e.Message
	}
}

// wireError is the JSON form of an error.
type wireError struct {
	Code    string    `json:"code"`
	Message string    `json:"message"`
	Details *wireExec `json:"details"`
}

// errorFrom reads the failure that resp reports.
func errorFrom(resp *http.Response) error {
	e := &Error{Status: resp.StatusCode, RequestID: resp.Header.Get("X-Request-Id")}
	if sec, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && sec > 0 {
		e.RetryAfter = time.Duration(sec) * time.Second
	}
	var body struct {
		Error wireError `json:"error"`
	}
	err := json.NewDecoder(io.LimitReader(resp.Body, maxErrorBody)).Decode(&body)
	if err != nil || body.Error.Code == "" {
		e.Message = fmt.Sprintf("%s answered %s, which is not an answer of Wrenn's API",
			resp.Request.URL.Redacted(), resp.Status)
		return e
	}
	return e.fill(body.Error)
}

func (e *Error) fill(w wireError) error {
	e.Code, e.Message = w.Code, w.Message
	if w.Details == nil {
		return e
	}
	partial, err := w.Details.result()
	if err != nil {
		return err
	}
	e.Partial = partial
	return e
}
