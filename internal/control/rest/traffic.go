package rest

import (
	"net/http"

	"github.com/wrenn-dev/wrenn/api/types"
)

// getTraffic answers with the means to reach a sandbox's ports.
func (s *server) getTraffic(w http.ResponseWriter, r *http.Request) {
	id, err := idOf(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	sb, err := s.Sandboxes.Get(r.Context(), id)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	out := types.Traffic{
		PublicPorts: append([]int{}, sb.Spec.PublicPorts...), HTTPSPorts: append([]int{}, sb.Spec.HTTPSPorts...),
		Token: nullable(sb.Spec.TrafficToken(sb.ID)), AccessToken: nullable(sb.Spec.EnvdTokenOf(sb.ID)),
	}
	if s.PortURL != nil {
		out.URL = nullable(s.PortURL(sb.ID))
	}
	writeJSON(w, http.StatusOK, out)
}
