package envd

import (
	"context"
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guest/agent"
)

// defaultUser is the user of requests that name none: the protocol's clients rely on it.
// A guest without that user takes the default user of the host agent.
const defaultUser = "user"

// actorOf returns the user of an RPC: the name in HTTP basic authentication,
// whose password is ignored, or the default user.
func (s *Server) actorOf(ctx context.Context, h http.Header) (agent.Actor, error) {
	name, err := basicUser(h.Get("Authorization"))
	if err != nil {
		return agent.Actor{}, err
	}
	return s.actorNamed(ctx, name)
}

// actorNamed returns the user called name, or the default user for an empty name.
func (s *Server) actorNamed(ctx context.Context, name string) (agent.Actor, error) {
	if name != "" {
		return s.agent.Actor(ctx, name)
	}
	actor, err := s.agent.Actor(ctx, defaultUser)
	if err != nil {
		return s.agent.Actor(ctx, "")
	}
	return actor, nil
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
