package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/wrenn-dev/wrenn/api/types"
)

// CreateProgress tells how far a create is.
type CreateProgress = types.CreateProgress

// CreateTelling is Create that tells progress each stage of a create that takes long, such as
// the first boot of an image. If the stream of events breaks off, the error does not say
// whether there is a sandbox.
func (c *Client) CreateTelling(ctx context.Context, in CreateRequest, progress func(CreateProgress)) (*Sandbox, error) {
	r := request{method: http.MethodPost, path: "/v1/sandboxes"}
	if err := r.setJSON(in); err != nil {
		return nil, err
	}
	events, err := c.openEvents(ctx, r)
	if err != nil {
		return nil, err
	}
	defer events.Close()
	if !events.are() { // the answer of a server of an earlier version
		return decoded[Sandbox](json.NewDecoder(events.body))
	}
	for {
		name, data, err := events.next()
		if err != nil {
			return nil, fmt.Errorf("client: the stream broke off before the create ended: %w", err)
		}
		switch name {
		case "progress":
			p, err := decoded[CreateProgress](json.NewDecoder(bytes.NewReader(data)))
			if err != nil {
				return nil, err
			}
			progress(*p)
		case "sandbox":
			return decoded[Sandbox](json.NewDecoder(bytes.NewReader(data)))
		case "error":
			return nil, events.failure(data)
		}
	}
}

func decoded[T any](d *json.Decoder) (*T, error) {
	out := new(T)
	if err := d.Decode(out); err != nil {
		return nil, badEvent(err)
	}
	return out, nil
}
