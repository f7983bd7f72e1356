package client

import (
	"context"
	"net/http"
)

// ErrorCode explains one Error.Code.
type ErrorCode struct {
	Code string `json:"code"`
	// Statuses are the HTTP statuses that it comes with.
	Statuses []int  `json:"statuses"`
	Cause    string `json:"cause"`
	Remedy   string `json:"remedy"`
}

// ErrorCodes returns every code that the server knows.
func (c *Client) ErrorCodes(ctx context.Context) ([]ErrorCode, error) {
	var out []ErrorCode
	_, err := c.call(ctx, request{method: http.MethodGet, path: "/v1/errors"}, nil, &out)
	return out, err
}
