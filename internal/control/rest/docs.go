package rest

import (
	"embed"
	"net/http"

	"github.com/go-chi/chi/v5"
	"github.com/swaggest/swgui/v5/static"
	"github.com/vearutop/statigz"

	"github.com/wrenn-dev/wrenn/api"
)

// docsPolicy lets the documentation load from and call this server only.
// Swagger UI sets styles from its script; no inline script is needed.
const docsPolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; " +
	"img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// docsFiles holds the project's part of the documentation page: the page, and
// the script that starts Swagger UI on it.
//
//go:embed docs
var docsFiles embed.FS

func (s *server) openAPI(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "application/yaml")
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(api.OpenAPI)
}

func setDocsHeaders(h http.Header) {
	h.Set("Content-Security-Policy", docsPolicy)
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
}

// docsPage serves the page of the documentation.
func (s *server) docsPage(w http.ResponseWriter, r *http.Request) {
	setDocsHeaders(w.Header())
	http.ServeFileFS(w, r, docsFiles, "docs/index.html")
}

// docsAsset serves the files that the page loads: Swagger UI, which is embedded
// compressed, and our own files.
func (s *server) docsAsset() http.HandlerFunc {
	swagger := statigz.FileServer(static.FS)
	swagger.OnNotFound = s.routeNotFound
	return func(w http.ResponseWriter, r *http.Request) {
		setDocsHeaders(w.Header())
		switch name := chi.URLParam(r, "asset"); name {
		case "docs.js", "docs.css":
			http.ServeFileFS(w, r, docsFiles, "docs/"+name)
		default:
			http.StripPrefix("/docs", swagger).ServeHTTP(w, r)
		}
	}
}
