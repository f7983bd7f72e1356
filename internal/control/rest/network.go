package rest

import (
	"context"
	"net/http"

	"github.com/wrenn-dev/wrenn/api/types"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

func networkOf(sb control.Sandbox) types.Network {
	deny, allow := sb.Spec.Egress.Strings()
	return types.Network{EgressDeny: deny, EgressAllow: allow}
}

func (s *server) getNetwork(w http.ResponseWriter, r *http.Request) {
	answerOne(s, w, r, idOf, s.Sandboxes.Get, networkOf)
}

// setNetwork replaces the limits of outgoing traffic. A list that is absent is empty.
func (s *server) setNetwork(w http.ResponseWriter, r *http.Request) {
	var deny, allow []string
	if err := readJSON(w, r, fields{"egress_deny": &deny, "egress_allow": &allow}); err != nil {
		s.fail(w, r, err)
		return
	}
	limits, err := sandbox.ParseEgress(deny, allow)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	answerOne(s, w, r, idOf, func(ctx context.Context, id sandbox.ID) (control.Sandbox, error) {
		return s.Sandboxes.SetEgress(ctx, id, limits)
	}, networkOf)
}
