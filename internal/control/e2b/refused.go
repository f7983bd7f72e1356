package e2b

import (
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"
)

func noRoute(http.ResponseWriter, *http.Request) error {
	return refuse(http.StatusNotFound, "", "there is no such route")
}

func noMethod(http.ResponseWriter, *http.Request) error {
	return refuse(http.StatusMethodNotAllowed, "", "this route does not have this method")
}

// refusedRoutes are the routes of features that this server does not have. Lists are
// empty, and everything else is refused.
func refusedRoutes(s *server, r chi.Router) {
	empty := s.handle(func(w http.ResponseWriter, _ *http.Request) error {
		writeJSON(w, http.StatusOK, []struct{}{})
		return nil
	})
	refused := func(status int, message string) http.HandlerFunc {
		return s.handle(func(http.ResponseWriter, *http.Request) error { return refuse(status, "", "%s", message) })
	}
	r.Post("/templates", refused(http.StatusNotImplemented, "this form of a template's build is that of E2B's first clients: use a client of version 2"))
	r.Get("/volumes", empty)
	r.Post("/volumes", refused(http.StatusNotImplemented, "volumes are not supported"))
	r.Get("/volumes/{id}", refused(http.StatusNotFound, "volumes are not supported"))
	r.Delete("/volumes/{id}", refused(http.StatusNotFound, "volumes are not supported"))
	r.Get("/secrets", empty)
	r.HandleFunc("/secrets", refused(http.StatusNotFound, "secrets are not supported"))
	r.HandleFunc("/secrets/{id}", refused(http.StatusNotFound, "secrets are not supported"))
}

// listTeams answers the login of the command-line client. There is one team, and its key
// is the one that the client has given.
func (s *server) listTeams(w http.ResponseWriter, r *http.Request) error {
	key := r.Header.Get("X-Api-Key")
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && key == "" && strings.EqualFold(scheme, "Bearer") {
		key = strings.TrimSpace(token)
	}
	writeJSON(w, http.StatusOK, []map[string]any{{"teamID": "default", "name": "default", "apiKey": key, "isDefault": true}})
	return nil
}
