package traffic

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httputil"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Sandboxes are the use cases of the control plane that the package needs.
type Sandboxes interface {
	Get(ctx context.Context, id sandbox.ID) (control.Sandbox, error)
	DialPort(ctx context.Context, id sandbox.ID, port uint16, options ...control.DialOption) (control.PortConn, error)
}

// DefaultMaxConnections is the number of requests and raw connections to one sandbox
// that one server carries at once for callers with credentials, and again for those of
// public ports. A host agent has a limit of its own, for all servers.
const DefaultMaxConnections = 256

// Config holds the parts of a Handler. All but MaxConnections are required.
type Config struct {
	Sandboxes Sandboxes
	// Admit returns an error unless the caller of a request may use the REST API.
	Admit func(*http.Request) error
	// Domain is the name below which each port has a name, in lower case.
	Domain string
	// Next gets the requests that are for no port.
	Next http.Handler
	Log  *slog.Logger
	// MaxConnections is DefaultMaxConnections if it is 0.
	MaxConnections int
}

// Handler serves the ports of sandboxes, and passes on all other requests. It is safe
// for concurrent use.
type Handler struct {
	Config
	places places
	proxy  *httputil.ReverseProxy
}

// New returns a Handler. The error names a field of c that is missing.
func New(c Config) (*Handler, error) {
	if c.Sandboxes == nil || c.Admit == nil || c.Domain == "" || c.Next == nil || c.Log == nil || c.MaxConnections < 0 {
		return nil, fault.New(fault.Internal, "missing_dependency", "traffic.New misses a dependency")
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = DefaultMaxConnections
	}
	h := &Handler{Config: c, places: places{open: make(map[place]int)}}
	h.proxy = h.newProxy()
	return h, nil
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t, ok, err := h.route(r)
	if !ok {
		h.Next.ServeHTTP(w, r)
		return
	}
	if err != nil {
		h.refuse(w, r, t, err)
		return
	}
	h.Log.DebugContext(r.Context(), "a request to a port", "sandbox", t.id, "port", t.port, "method", r.Method, "protocol", r.Proto)
	h.serve(w, r, t)
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request, t target) {
	row, err := h.Sandboxes.Get(r.Context(), t.id)
	if err == nil {
		err = unreachable(row)
	}
	if err == nil && t.port == sandbox.EnvdPort && isPreflight(r) {
		answerPreflight(w)
		return
	}
	fromQuery := false
	if err == nil {
		t.caller, fromQuery, err = h.admit(r, t, row)
	}
	if err == nil {
		err = admitBytes(r, t)
	}
	if err == nil && fromQuery && keepToken(w, r, t) {
		return
	}
	if err == nil {
		err = h.places.take(place{t.id, t.caller}, h.limitOf(t.caller))
	}
	if err != nil {
		h.refuse(w, r, t, err)
		return
	}
	defer h.places.leave(place{t.id, t.caller})
	if t.port != sandbox.EnvdPort {
		t.host, t.tls = row.Spec.RequestHostOf(t.port), row.Spec.SpeaksTLS(t.port)
	}
	if wantsBytes(r) {
		h.carry(w, r, t)
		return
	}
	h.forward(w, r, t)
}
