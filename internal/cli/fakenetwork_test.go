package cli_test

import (
	"encoding/json"
	"net/http"

	"github.com/wrenn-dev/wrenn/client"
)

// network answers with the limits of outgoing traffic, after a PUT with those in its body.
func (f *fake) network(w http.ResponseWriter, r *http.Request, sb *client.Sandbox) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.Method == http.MethodPut {
		var in client.NetworkRequest
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			refuse(w, 400, "invalid_json", err.Error())
			return
		}
		sb.EgressDeny, sb.EgressAllow = in.EgressDeny, in.EgressAllow
	}
	answer(w, 200, client.Network{EgressDeny: sb.EgressDeny, EgressAllow: sb.EgressAllow})
}
