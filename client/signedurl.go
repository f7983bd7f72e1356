package client

import (
	"context"
	"net/http"

	"github.com/wrenn-dev/wrenn/api/types"
)

// SignFileRequest is a file of which a URL is signed.
type SignFileRequest = types.SignFileRequest

// SignedURL is a URL that reads or writes one file without an API key.
type SignedURL = types.SignedURL

// The values of SignFileRequest.Operation.
const (
	SignRead  = "read"
	SignWrite = "write"
)

// SignFile returns a URL with which anyone can read or write one file until it expires.
func (c *Client) SignFile(ctx context.Context, id string, in SignFileRequest) (*SignedURL, error) {
	out := new(SignedURL)
	_, err := c.onFiles(ctx, id, request{method: http.MethodPost, path: "/sign"}, in, out)
	return out, err
}
