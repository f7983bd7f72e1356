package client

import (
	"context"
	"net/http"

	"github.com/wrenn-dev/wrenn/api/types"
)

// ErrorCode explains one Error.Code.
type ErrorCode = types.ErrorCode

// ErrorCodes returns every code that the server knows.
func (c *Client) ErrorCodes(ctx context.Context) ([]ErrorCode, error) {
	var out []ErrorCode
	_, err := c.call(ctx, request{method: http.MethodGet, path: "/v1/errors"}, nil, &out)
	return out, err
}
