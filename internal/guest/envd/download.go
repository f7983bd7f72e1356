package envd

import (
	"compress/gzip"
	"io"
	"mime"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/guest/filesystem"
)

// downloadBuffer is the size of the pieces, in bytes, in which content of unknown
// size is sent.
const downloadBuffer = 64 << 10

// download serves GET /files.
func (s *Server) download(w http.ResponseWriter, r *http.Request) {
	content, err := s.openFor(r)
	if err != nil {
		writeFault(w, err)
		return
	}
	defer content.Close()
	h := w.Header()
	h.Set("Vary", "Accept-Encoding")
	h.Set("Content-Type", contentType(content.Name))
	if disposition := mime.FormatMediaType("inline", map[string]string{"filename": content.Name}); disposition != "" {
		h.Set("Content-Disposition", disposition)
	}
	// A range means bytes of the file itself, not of its compressed form.
	partial := r.Header.Get("Range") != "" || r.Header.Get("If-Range") != ""
	encoding := chooseEncoding(r.Header.Get("Accept-Encoding"))
	switch {
	case encoding == encodingNone && !partial:
		h.Del("Content-Disposition")
		writeError(w, http.StatusNotAcceptable, "no acceptable encoding: gzip and identity are offered")
	case encoding == encodingGzip && !partial:
		h.Set("Content-Encoding", "gzip")
		h.Set("Last-Modified", content.ModifiedAt.UTC().Format(http.TimeFormat))
		sendGzip(w, content)
	case content.Size < 0:
		sendUnsized(w, content)
	default:
		http.ServeContent(w, r, "", content.ModifiedAt, content.Seekable())
	}
}

func (s *Server) openFor(r *http.Request) (*filesystem.Content, error) {
	actor, err := s.actorNamed(r.Context(), r.URL.Query().Get("username"))
	if err != nil {
		return nil, err
	}
	path, err := actor.Resolve(r.URL.Query().Get("path"))
	if err != nil {
		return nil, err
	}
	return s.agent.Files().Open(path)
}

// onlyReader hides every method but Read, so that io.CopyBuffer uses its buffer.
type onlyReader struct{ io.Reader }

// sendUnsized sends content of unknown size. An error breaks the
// connection, as in sendGzip.
func sendUnsized(w http.ResponseWriter, content io.Reader) {
	if _, err := io.CopyBuffer(w, onlyReader{content}, make([]byte, downloadBuffer)); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// sendGzip sends content compressed. An error breaks the connection,
// so that the client does not take a part of the file for all of it.
func sendGzip(w http.ResponseWriter, content io.Reader) {
	zw, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err == nil {
		_, err = io.CopyBuffer(zw, onlyReader{content}, make([]byte, downloadBuffer))
	}
	if err == nil {
		err = zw.Close()
	}
	if err != nil {
		panic(http.ErrAbortHandler)
	}
}

type encoding int

const (
	encodingIdentity encoding = iota
	encodingGzip
	encodingNone
)

// chooseEncoding picks gzip if the header names no other compression, or rules identity
// out, else identity (RFC 9110, section 12.5.3). A client that names several lists all that
// it can do, and did not ask: compressing costs the guest more time than it saves.
func chooseEncoding(header string) encoding {
	if header == "" {
		return encodingIdentity
	}
	weights := map[string]float64{}
	for _, item := range strings.Split(header, ",") {
		name, params, _ := strings.Cut(item, ";")
		weight := 1.0
		if q, ok := strings.CutPrefix(strings.TrimSpace(params), "q="); ok {
			if parsed, err := strconv.ParseFloat(q, 64); err == nil {
				weight = parsed
			}
		}
		weights[strings.ToLower(strings.TrimSpace(name))] = weight
	}
	q, named := weights["gzip"]
	gzips := named && q > 0
	any, hasAny := weights["*"]
	q, named = weights["identity"]
	refused := named && q == 0 || !named && hasAny && any == 0
	switch {
	case gzips && (refused || onlyGzip(weights)):
		return encodingGzip
	case refused:
		return encodingNone
	default:
		return encodingIdentity
	}
}

// onlyGzip reports whether weights name no compression but gzip.
func onlyGzip(weights map[string]float64) bool {
	for name := range weights {
		if name != "gzip" && name != "identity" && name != "*" {
			return false
		}
	}
	return true
}

// contentTypes are the types of files that browsers show. The tables of the image
// are not used, because the guest can write them.
var contentTypes = map[string]string{
	".css": "text/css; charset=utf-8", ".csv": "text/csv; charset=utf-8", ".gif": "image/gif",
	".html": "text/html; charset=utf-8", ".jpeg": "image/jpeg", ".jpg": "image/jpeg",
	".js": "text/javascript; charset=utf-8", ".json": "application/json", ".md": "text/markdown; charset=utf-8",
	".pdf": "application/pdf", ".png": "image/png", ".svg": "image/svg+xml", ".txt": "text/plain; charset=utf-8",
	".webp": "image/webp", ".xml": "text/xml; charset=utf-8", ".zip": "application/zip",
}

func contentType(name string) string {
	if t, ok := contentTypes[strings.ToLower(filepath.Ext(name))]; ok {
		return t
	}
	return "application/octet-stream"
}
