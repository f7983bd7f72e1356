package rest

import (
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// routes returns the whole API. Patterns are written out, not nested, so that
// they read as in the OpenAPI document.
func (s *server) routes() *chi.Mux {
	r := chi.NewRouter()
	r.Use(s.observe, s.recover, middleware.GetHead)
	r.NotFound(s.routeNotFound)
	r.MethodNotAllowed(s.methodNotAllowed(r))

	r.Get("/", http.RedirectHandler("/docs", http.StatusFound).ServeHTTP)
	r.Get("/docs", s.docsPage)
	r.Get("/docs/{asset}", s.docsAsset())
	r.Get("/openapi.yaml", s.openAPI)
	r.Get("/healthz", s.health)
	r.Get("/readyz", s.ready)

	r.Group(func(r chi.Router) {
		r.Use(s.access)
		r.Post("/v1/sandboxes", s.createSandbox)
		r.Get("/v1/sandboxes", s.listSandboxes)
		r.Get("/v1/sandboxes/{id}", s.getSandbox)
		r.Delete("/v1/sandboxes/{id}", s.destroySandbox)
		r.Post("/v1/sandboxes/{id}/pause", s.pauseSandbox)
		r.Post("/v1/sandboxes/{id}/resume", s.resumeSandbox)
		r.Post("/v1/sandboxes/{id}/exec", s.execCommand)
		r.Post("/v1/sandboxes/{id}/files/write", s.uploadFile)
		r.Post("/v1/sandboxes/{id}/files/read", s.downloadFile)
		r.Put("/v1/sandboxes/{id}/files", s.putFile)
		r.Get("/v1/sandboxes/{id}/files", s.getFile)
		r.Get("/v1/sandboxes/{id}/timeout", s.getTimeout)
		r.Patch("/v1/sandboxes/{id}/timeout", s.setTimeout)
		r.Post("/v1/sandboxes/{id}/fork", s.forkSandbox)
		r.Post("/v1/sandboxes/{id}/snapshots", s.createSnapshot)
		r.Get("/v1/sandboxes/{id}/snapshots", s.listSandboxSnapshots)
		r.Get("/v1/snapshots", s.listSnapshots)
		r.Get("/v1/snapshots/{id}", s.getSnapshot)
		r.Delete("/v1/snapshots/{id}", s.deleteSnapshot)
		r.Post("/v1/snapshots/{id}/template", s.setTemplate)
		r.Delete("/v1/snapshots/{id}/template", s.unsetTemplate)
		r.Get("/v1/hosts", s.listHosts)
		r.Post("/v1/gc", s.collectGarbage)
	})
	return r
}

func (s *server) routeNotFound(w http.ResponseWriter, r *http.Request) {
	s.fail(w, r, fault.New(fault.NotFound, "route_not_found", "there is no such route; /docs lists those there are"))
}

// methodNotAllowed answers for known paths with another method: OPTIONS with
// the methods there are, anything else with 405 and the same list.
func (s *server) methodNotAllowed(routes chi.Routes) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		allowed := allowedMethods(routes, r)
		if len(allowed) == 0 {
			s.routeNotFound(w, r)
			return
		}
		w.Header().Set("Allow", strings.Join(append(allowed, http.MethodOptions), ", "))
		if r.Method == http.MethodOptions {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		s.fail(w, r, withStatus(http.StatusMethodNotAllowed,
			fault.New(fault.Invalid, "method_not_allowed", "this route does not take this method; Allow lists those it takes")))
	}
}

func allowedMethods(routes chi.Routes, r *http.Request) []string {
	path := r.URL.RawPath // as chi routes
	if path == "" {
		path = r.URL.Path
	}
	var allowed []string
	for _, m := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		if !routes.Match(chi.NewRouteContext(), m, path) {
			continue
		}
		allowed = append(allowed, m)
		if m == http.MethodGet {
			allowed = append(allowed, http.MethodHead)
		}
	}
	return allowed
}
