package envd

import (
	"context"
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guest/agent"
)

// actorOf returns the user of an RPC: the name in HTTP basic authentication,
// whose password is ignored, or the default user.
func (s *Server) actorOf(ctx context.Context, h http.Header) (agent.Actor, error) {
	name, err := basicUser(h.Get("Authorization"))
	if err != nil {
		return agent.Actor{}, err
	}
	return s.agent.Actor(ctx, name)
}

// basicUser returns the user name in a header of RFC 7617. A header of another
// scheme counts as none.
func basicUser(header string) (string, error) {
	scheme, encoded, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "basic") {
		return "", nil
	}
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
	if err != nil {
		return "", fault.Wrap(err, fault.Unauthenticated, "invalid_authorization", "the Authorization header is malformed")
	}
	name, _, _ := strings.Cut(string(b), ":")
	return name, nil
}
