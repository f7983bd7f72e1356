package traffic

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control/duplex"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
	"github.com/wrenn-dev/wrenn/internal/tunnel"
)

const (
	// maxAnswerHead bounds the head of a program's answer, in bytes.
	maxAnswerHead = 64 << 10
	// maxInformational is the number of answers with a status of 1xx that a program may
	// send before the real one.
	maxInformational = 16
	// copyBytes is the size, in bytes, of the pieces in which bodies are copied.
	copyBytes = 64 << 10
	// maxLinger is the longest that a request with HTTP/1 waits, after its answer, for the
	// rest of its body.
	maxLinger = 5 * time.Second
)

type targetKey struct{}

// targetOf returns the target of a request that forward has begun.
func targetOf(ctx context.Context) target {
	t, _ := ctx.Value(targetKey{}).(target)
	return t
}

// forward passes r on to the program and its answer back.
func (h *Handler) forward(w http.ResponseWriter, r *http.Request, t target) {
	if t.form == byPath && r.URL.EscapedPath() == t.prefix && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		// Links of the page are relative to a directory.
		http.Redirect(w, r, (&url.URL{Path: t.prefix + "/", RawQuery: r.URL.RawQuery}).String(), http.StatusPermanentRedirect)
		return
	}
	ctx := context.WithValue(r.Context(), targetKey{}, t)
	informational := 0
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(int, textproto.MIMEHeader) error {
		if informational++; informational > maxInformational {
			return errors.New("too many answers with a status of 1xx")
		}
		return nil
	}})
	// A program may answer while the body still comes.
	exchange, w, r := duplex.Begin(w, r.WithContext(ctx))
	aborted := true // by a panic
	defer func() { exchange.End(maxLinger, aborted) }()
	h.proxy.ServeHTTP(w, r)
	aborted = false
}

// requestBody is the body of a request that is passed on.
type requestBody struct{ io.ReadCloser }

// WriteTo implements io.WriterTo. net/http copies bodies of unknown length with it, and
// each piece becomes a chunk.
func (b requestBody) WriteTo(w io.Writer) (int64, error) { return tunnel.Copy(w, b.ReadCloser) }

func (h *Handler) newProxy() *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite:        rewrite,
		ModifyResponse: modifyAnswer,
		ErrorHandler:   h.forwardFailed,
		FlushInterval:  -1, // at once
		BufferPool:     &buffers{},
		ErrorLog:       slog.NewLogLogger(h.Log.Handler(), slog.LevelDebug),
		Transport: &http.Transport{
			DialContext:            h.dial,
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: maxAnswerHead,
			ReadBufferSize:         copyBytes,
			WriteBufferSize:        1, // see wholeHead
		},
	}
}

// dial connects to the target that rewrite has written into the address.
func (h *Handler) dial(ctx context.Context, _, address string) (net.Conn, error) {
	id, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, err
	}
	t := targetOf(ctx)
	conn, err := h.dialPatiently(ctx, target{id: sandbox.ID(id), port: uint16(number), form: t.form, caller: t.caller})
	if err != nil {
		return nil, err
	}
	if t.tls {
		return h.secure(ctx, conn, t)
	}
	return &wholeHead{Conn: conn}, nil
}

// rewrite makes the request for the program.
func rewrite(p *httputil.ProxyRequest) {
	t := targetOf(p.In.Context())
	u := *p.In.URL
	u.Scheme, u.Host = "http", net.JoinHostPort(string(t.id), strconv.Itoa(int(t.port)))
	if t.form == byPath {
		raw := "/" + strings.TrimLeft(strings.TrimPrefix(u.EscapedPath(), t.prefix), "/")
		if path, err := url.PathUnescape(raw); err == nil {
			u.Path, u.RawPath = path, raw
		}
	}
	if t.caller == stranger || p.In.ContentLength != 0 {
		// A client changes protocols only after its request (RFC 9110, section 7.8), but a
		// program could do so while the body still comes.
		dropUpgrade(p.Out.Header)
	}
	if p.Out.Body != nil {
		p.Out.Body = requestBody{p.Out.Body} // here, because the proxy has wrapped that of the client
	}
	strip(p.Out.Header, &u)
	p.Out.URL = &u
	p.Out.Trailer = p.In.Trailer // filled in when the body ends
	p.SetXForwarded()
	if t.form == byPath {
		p.Out.Header.Set("X-Forwarded-Prefix", t.prefix)
	}
	if t.host != "" {
		p.Out.Host = t.host // X-Forwarded-Host has the client's
	}
	if _, given := p.In.Header["User-Agent"]; !given {
		p.Out.Header.Set("User-Agent", "") // else net/http names itself
	}
}

// forwardFailed answers a request that has no answer of its program.
func (h *Handler) forwardFailed(w http.ResponseWriter, r *http.Request, cause error) {
	t := targetOf(r.Context())
	var f *fault.Error
	switch {
	case errors.As(cause, &f):
		h.refuse(w, r, t, cause)
		return
	case r.Context().Err() != nil:
		panic(http.ErrAbortHandler) // the client has gone, or the server stops
	}
	// The program has broken off, or the sandbox with it.
	row, err := h.Sandboxes.Get(r.Context(), t.id)
	if err == nil {
		err = unreachable(row)
	}
	if err == nil {
		err = fault.Wrap(cause, fault.HostFailed, reasonInvalidAnswer,
			"the program on port %d of sandbox %s gave no answer in %s", t.port, t.id, t.protocol())
	}
	h.refuse(w, r, t, err)
}

// buffers is a pool of buffers for the bodies of answers.
type buffers struct{ pool sync.Pool }

// Get implements httputil.BufferPool.
func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, copyBytes)
}

// Put implements httputil.BufferPool.
func (b *buffers) Put(p []byte) { b.pool.Put(&p) }
