package rest

import (
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// routes returns the handler of the whole API. Patterns are written out, not
// nested, so that they are those of the OpenAPI document.
func (s *server) routes() *chi.Mux {
	r := chi.NewRouter()
	r.Use(s.observe, s.recover, stripSlash, middleware.GetHead)
	r.NotFound(s.routeNotFound)
	r.MethodNotAllowed(s.methodNotAllowed(r))

	r.Get("/", http.RedirectHandler("/docs", http.StatusFound).ServeHTTP)
	r.Get("/docs", s.docsPage)
	r.Get("/docs/errors.md", s.errorsPage)
	r.Get("/docs/{asset}", s.docsAsset())
	r.Get("/openapi.yaml", s.openAPI)
	r.Get("/healthz", s.health)
	r.Get("/readyz", s.ready)

	r.Group(func(r chi.Router) {
		r.Use(s.access)
		r.Post("/v1/sandboxes", s.query(s.once(s.createSandbox, true)))
		r.Get("/v1/sandboxes", s.query(s.listSandboxes, "status", "template", "name", metadataParam+"*", "limit", "cursor"))
		r.Get("/v1/sandboxes/{id}", s.query(s.getSandbox))
		r.Delete("/v1/sandboxes/{id}", s.query(s.once(s.destroySandbox, true)))
		r.Post("/v1/sandboxes/{id}/pause", s.query(s.once(s.pauseSandbox, true), "force"))
		r.Post("/v1/sandboxes/{id}/resume", s.query(s.once(s.resumeSandbox, true)))
		r.Post("/v1/sandboxes/{id}/exec", s.query(s.once(s.execCommand, true)))
		r.Post("/v1/sandboxes/{id}/processes", s.query(s.once(s.startProcess, true)))
		r.Get("/v1/sandboxes/{id}/processes", s.query(s.listProcesses))
		r.Get("/v1/sandboxes/{id}/processes/{process}", s.query(s.getProcess))
		r.Get("/v1/sandboxes/{id}/processes/{process}/wait", s.query(s.waitProcess, "timeout_sec"))
		r.Get("/v1/sandboxes/{id}/processes/{process}/attach", s.query(s.attachProcess, "offset", "ack"))
		r.Post("/v1/sandboxes/{id}/processes/{process}/stdin", s.query(s.once(s.writeProcess, true), "close"))
		r.Delete("/v1/sandboxes/{id}/processes/{process}/stdin", s.query(s.once(s.closeProcessStdin, true)))
		r.Post("/v1/sandboxes/{id}/processes/{process}/signal", s.query(s.once(s.signalProcess, true)))
		r.Post("/v1/sandboxes/{id}/processes/{process}/resize", s.query(s.once(s.resizeProcess, true)))
		r.Post("/v1/sandboxes/{id}/processes/{process}/ack", s.query(s.once(s.ackProcess, true)))
		r.Post("/v1/sandboxes/{id}/files/write", s.query(s.once(s.uploadFile, false), "path", "mode", "user"))
		r.Post("/v1/sandboxes/{id}/files/read", s.query(s.downloadFile))
		r.Post("/v1/sandboxes/{id}/files/sign", s.query(s.once(s.signFile, true)))
		r.Delete("/v1/sandboxes/{id}/files", s.query(s.once(s.removeFile, true), "path", "recursive"))
		r.Get("/v1/sandboxes/{id}/files/list", s.query(s.listFiles, "path", "depth", "limit", "cursor"))
		r.Get("/v1/sandboxes/{id}/files/watch", s.query(s.watchFiles, "path", "recursive"))
		r.Get("/v1/sandboxes/{id}/files/tar", s.query(s.getArchive, "path"))
		r.Post("/v1/sandboxes/{id}/files/tar", s.query(s.once(s.putArchive, false), "path", "user"))
		r.Get("/v1/sandboxes/{id}/files/stat", s.query(s.statFile, "path", "follow"))
		r.Post("/v1/sandboxes/{id}/files/mkdir", s.query(s.once(s.makeDir, true)))
		r.Post("/v1/sandboxes/{id}/files/move", s.query(s.once(s.moveFile, true)))
		r.Get("/v1/sandboxes/{id}/timeout", s.query(s.getTimeout))
		r.Patch("/v1/sandboxes/{id}/timeout", s.query(s.once(s.setTimeout, true)))
		r.Get("/v1/sandboxes/{id}/network", s.query(s.getNetwork))
		r.Put("/v1/sandboxes/{id}/network", s.query(s.once(s.setNetwork, true)))
		r.Get("/v1/sandboxes/{id}/traffic", s.query(s.getTraffic))
		r.Post("/v1/sandboxes/{id}/fork", s.query(s.once(s.forkSandbox, true)))
		r.Post("/v1/sandboxes/{id}/snapshots", s.query(s.once(s.createSnapshot, true)))
		r.Get("/v1/sandboxes/{id}/snapshots", s.query(s.listSandboxSnapshots, "limit", "cursor"))
		r.Get("/v1/snapshots", s.query(s.listSnapshots, "sandbox_id", "name", "limit", "cursor"))
		r.Get("/v1/snapshots/{id}", s.query(s.getSnapshot))
		r.Delete("/v1/snapshots/{id}", s.query(s.once(s.deleteSnapshot, true)))
		r.Post("/v1/snapshots/{id}/template", s.query(s.once(s.setTemplate, true)))
		r.Delete("/v1/snapshots/{id}/template", s.query(s.once(s.unsetTemplate, true)))
		r.Get("/v1/templates", s.query(s.withTemplates(s.listTemplates), "limit", "cursor"))
		r.Get("/v1/templates/{name}", s.query(s.withTemplates(s.getTemplate)))
		r.Delete("/v1/templates/{name}", s.query(s.once(s.withTemplates(s.deleteTemplate), true)))
		r.Post("/v1/templates/{name}/builds", s.query(s.once(s.withTemplates(s.buildTemplate), true)))
		r.Get("/v1/templates/{name}/builds", s.query(s.withTemplates(s.listBuilds)))
		r.Get("/v1/templates/{name}/builds/{build}", s.query(s.withTemplates(s.getBuild)))
		r.Delete("/v1/templates/{name}/builds/{build}", s.query(s.once(s.withTemplates(s.cancelBuild), true)))
		r.Get("/v1/templates/{name}/builds/{build}/logs", s.query(s.withTemplates(s.getBuildLogs), "after", "limit"))
		r.Get("/v1/templates/{name}/tags/{tag}", s.query(s.withTemplates(s.getTag)))
		r.Put("/v1/templates/{name}/tags/{tag}", s.query(s.once(s.withTemplates(s.setTag), true)))
		r.Delete("/v1/templates/{name}/tags/{tag}", s.query(s.once(s.withTemplates(s.removeTag), true)))
		r.Get("/v1/templates/uploads/{digest}", s.query(s.withTemplates(s.getUpload)))
		r.Put("/v1/templates/uploads/{digest}", s.query(s.once(s.withTemplates(s.putUpload), false)))
		r.Get("/v1/errors", s.query(s.listErrors))
		r.Get("/v1/hosts", s.query(s.listHosts))
		r.Post("/v1/gc", s.query(s.once(s.collectGarbage, true)))
	})
	r.Group(func(r chi.Router) {
		r.Use(s.accessOrSignature)
		r.Put("/v1/sandboxes/{id}/files", s.query(s.once(s.putFile, false), "path", "mode", "user", expiresParam, maxBytesParam, signatureParam))
		r.Get("/v1/sandboxes/{id}/files", s.query(s.getFile, "path", "user", expiresParam, maxBytesParam, signatureParam))
	})
	return r
}

// routedPath returns the path by which chi routes r.
func routedPath(r *http.Request) string {
	if r.URL.RawPath != "" {
		return r.URL.RawPath
	}
	return r.URL.Path
}

// withoutSlash returns path without one slash at its end, if it is of /v1.
func withoutSlash(path string) string {
	if strings.HasPrefix(path, "/v1/") {
		return strings.TrimSuffix(path, "/")
	}
	return path
}

// stripSlash treats a path of /v1 with a slash at its end as the path without
// it. A redirect would lose the body of a POST with many clients.
func stripSlash(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if rc := chi.RouteContext(r.Context()); rc != nil {
			rc.RoutePath = withoutSlash(routedPath(r))
		}
		next.ServeHTTP(w, r)
	})
}

func (s *server) routeNotFound(w http.ResponseWriter, r *http.Request) {
	s.fail(w, r, fault.New(fault.NotFound, "route_not_found", "there is no such route; /docs lists the routes"))
}

// methodNotAllowed answers requests for known paths with another method:
// OPTIONS with the list of methods, all others with 405 and the same list.
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
			fault.New(fault.Invalid, "method_not_allowed", "this route does not have this method; the header Allow lists its methods")))
	}
}

func allowedMethods(routes chi.Routes, r *http.Request) []string {
	path := withoutSlash(routedPath(r))
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
