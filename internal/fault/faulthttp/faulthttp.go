// Package faulthttp projects fault kinds onto HTTP status codes.
//
// The REST server and the guest's public protocol use it. It never writes
// a response: each API has its own error shape.
package faulthttp

import (
	"net/http"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// StatusClientClosedRequest is the status in the log if the caller hung up
// before the answer. No client receives it.
const StatusClientClosedRequest = 499

var statusOf = map[fault.Kind]int{
	fault.Internal:        http.StatusInternalServerError,
	fault.Invalid:         http.StatusBadRequest,
	fault.Unauthenticated: http.StatusUnauthorized,
	fault.Forbidden:       http.StatusForbidden,
	fault.NotFound:        http.StatusNotFound,
	fault.Exists:          http.StatusConflict,
	fault.WrongState:      http.StatusConflict,
	fault.Stale:           http.StatusConflict,
	fault.TooLarge:        http.StatusRequestEntityTooLarge,
	fault.Quota:           http.StatusTooManyRequests,
	fault.HostFailed:      http.StatusBadGateway,
	fault.NoCapacity:      http.StatusServiceUnavailable,
	fault.Timeout:         http.StatusGatewayTimeout,
	fault.Unsupported:     http.StatusNotImplemented,
	fault.Canceled:        StatusClientClosedRequest,
	fault.Unavailable:     http.StatusServiceUnavailable,
}

// Status returns the HTTP status for kind.
func Status(kind fault.Kind) int {
	if s, ok := statusOf[kind]; ok {
		return s
	}
	return http.StatusInternalServerError
}
