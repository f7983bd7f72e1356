package e2b

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/go-chi/chi/v5"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/templates"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// API are the use cases of the control plane that the package needs.
type API interface {
	control.API
	DialPort(ctx context.Context, id sandbox.ID, port uint16, options ...control.DialOption) (control.PortConn, error)
}

// Config holds the parts of a handler. All but Templates, Answers and Domain are required.
type Config struct {
	Sandboxes API
	// Templates are the builds of templates. If it is nil, builds are refused with 501, and
	// Secrets and MaxUploadBytes are not needed.
	Templates templates.API
	// Secrets signs the links by which clients upload the files of builds.
	Secrets Secrets
	// MaxUploadBytes is the largest upload.
	MaxUploadBytes int64
	// Enter returns the context of a request with its principal, if there is one. An
	// error means that the request is refused.
	Enter func(*http.Request) (context.Context, error)
	// Answers keeps the answers to creates with an Idempotency-Key. If it is nil, such
	// creates are refused with 501.
	Answers Answers
	// Domain is the name, with the port if it needs one, below which clients find the
	// ports of sandboxes. If it is empty, clients use the domain of their own setting.
	Domain string
	// Next gets the requests at all other paths.
	Next http.Handler
	Log  *slog.Logger
}

// server is the receiver of the handlers. All but samples and keyed is constant after New.
type server struct {
	Config
	mux     *chi.Mux
	samples samples
	// keyed is the number of creates with an Idempotency-Key.
	keyed atomic.Int64
}

// New returns a handler that serves the dialect, and passes all other requests on. It is
// safe for concurrent use.
func New(c Config) http.Handler {
	s := &server{Config: c}
	s.mux = s.routes()
	return s
}

// roots are the first elements of the paths that the package serves.
var roots = []string{"health", "sandboxes", "snapshots", "templates", "default-templates", "teams", "volumes", "secrets", "v2", "v3"}

// ServeHTTP implements http.Handler.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	root, _, _ := strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	if !slices.Contains(roots, root) {
		s.Next.ServeHTTP(w, r)
		return
	}
	s.observed(w, r, func(w http.ResponseWriter, r *http.Request) {
		allowOrigins(w.Header())
		if r.Method == http.MethodOptions {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		s.mux.ServeHTTP(w, r)
	})
}

// routes returns the handlers by path. Path parameters may hold escaped slashes, so that
// chi matches the escaped path, see param.
func (s *server) routes() *chi.Mux {
	r := chi.NewRouter()
	r.NotFound(s.handle(noRoute))
	r.MethodNotAllowed(s.handle(noMethod))
	r.Get("/health", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	r.Put("/templates/{id}/files/{hash}/content", s.handle(s.upload)) // by a signed link
	r.Group(func(r chi.Router) {
		r.Use(s.access)
		s.sandboxRoutes(r)
		r.Get("/snapshots", s.handle(s.listSnapshots))
		s.templateRoutes(r)
		r.Group(s.buildRoutes)
		r.Get("/teams", s.handle(s.listTeams))
		refusedRoutes(s, r)
	})
	return r
}

func (s *server) sandboxRoutes(r chi.Router) {
	r.Post("/sandboxes", s.once(s.createSandbox(defaultTimeoutV1)))
	r.Post("/v2/sandboxes", s.once(s.createSandbox(defaultTimeout)))
	r.Get("/sandboxes", s.handle(s.listRunning))
	r.Get("/v2/sandboxes", s.handle(s.listSandboxes))
	r.Get("/sandboxes/metrics", s.handle(s.manyMetrics))
	r.Get("/sandboxes/{id}", s.handle(s.getSandbox))
	r.Delete("/sandboxes/{id}", s.handle(s.killSandbox))
	r.Post("/sandboxes/{id}/connect", s.handle(s.connectSandbox))
	r.Post("/v2/sandboxes/{id}/connect", s.handle(s.connectSandbox))
	r.Post("/sandboxes/{id}/resume", s.handle(s.resumeSandbox))
	r.Post("/sandboxes/{id}/pause", s.handle(s.pauseSandbox))
	r.Post("/sandboxes/{id}/timeout", s.handle(s.setTimeout))
	r.Post("/sandboxes/{id}/refreshes", s.handle(s.refreshSandbox))
	r.Post("/sandboxes/{id}/fork", s.handle(s.forkSandbox))
	r.Post("/sandboxes/{id}/snapshots", s.handle(s.createSnapshot))
	r.Put("/sandboxes/{id}/network", s.handle(s.updateNetwork))
	r.Get("/sandboxes/{id}/metrics", s.handle(s.metrics))
	r.Get("/sandboxes/{id}/logs", s.handle(s.logsV1))
	r.Get("/v2/sandboxes/{id}/logs", s.handle(s.logsV2))
}

func (s *server) templateRoutes(r chi.Router) {
	r.Get("/templates", s.handle(s.listTemplates))
	r.Get("/v2/templates", s.handle(s.listTemplatePage))
	r.Get("/default-templates", s.handle(s.listImages))
	r.Get("/templates/aliases/{id}", s.handle(s.getAlias))
	r.Get("/templates/{id}", s.handle(s.getTemplate))
	r.Get("/templates/{id}/tags", s.handle(s.listTags))
	r.Get("/templates/{id}/tags/count", s.handle(s.countTags))
	r.Get("/templates/{id}/tags/exists", s.handle(s.tagExists))
	r.Delete("/templates/{id}", s.handle(s.deleteTemplate))
}

// handlerFunc is a handler whose error s.fail answers. It returns an error only if it
// has written nothing.
type handlerFunc func(w http.ResponseWriter, r *http.Request) error

func (s *server) handle(h handlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			s.fail(w, r, err)
		}
	}
}

// access passes on requests of callers who may use the API.
func (s *server) access(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, err := s.Enter(r)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		recordPrincipal(ctx)
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// allowOrigins lets pages of every site call with a key. No cookie grants access.
func allowOrigins(h http.Header) {
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
	h.Set("Access-Control-Allow-Headers", "*, Authorization")
	h.Set("Access-Control-Expose-Headers", "X-Next-Token, X-Total-Running, X-Request-Id, Retry-After, Should-Retry, Idempotency-Replayed")
	h.Set("Access-Control-Max-Age", "7200")
}
