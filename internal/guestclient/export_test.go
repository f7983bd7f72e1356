package guestclient

import "time"

// SetStallLimit replaces stallLimit. It must be called before the client is used.
func (c *Client) SetStallLimit(limit time.Duration) { c.stall = limit }
