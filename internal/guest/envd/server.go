package envd

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"connectrpc.com/connect"

	"github.com/wrenn-dev/wrenn/api/gen/filesystem/filesystemconnect"
	"github.com/wrenn-dev/wrenn/api/gen/process/processconnect"
	"github.com/wrenn-dev/wrenn/internal/guest/agent"
	"github.com/wrenn-dev/wrenn/internal/guest/filesystem"
	"github.com/wrenn-dev/wrenn/internal/guest/listener"
)

// Port is the port on which every guest serves the public protocol.
const Port = 49983

// Limits of the server.
const (
	maxHeaderBytes = 64 << 10
	maxStreams     = 256
	shutdownGrace  = 2 * time.Second
)

// Server serves the public protocol of one agent.
type Server struct {
	agent    *agent.Agent
	watchers *filesystem.Watchers
	load     loadMeter
	refusals chan struct{} // has an element for each refusal that is being written
}

// New returns a server of a's public protocol.
func New(a *agent.Agent) *Server {
	return &Server{agent: a, watchers: filesystem.NewWatchers(a.Files()), refusals: make(chan struct{}, maxRefusals)}
}

// Handler returns the handler of every service and endpoint.
func (s *Server) Handler() http.Handler {
	// Answers are never compressed: the protocol's clients do not ask for it, and
	// CPU time in the guest costs more than bytes to the host.
	options := []connect.HandlerOption{
		connect.WithReadMaxBytes(agent.MaxMessageBytes),
		connect.WithCompression("gzip", nil, nil),
	}
	mux := http.NewServeMux()
	mux.Handle(processconnect.NewProcessHandler(processService{s}, options...))
	mux.Handle(filesystemconnect.NewFilesystemHandler(filesystemService{s}, options...))
	mux.HandleFunc("GET /files", s.download)
	mux.HandleFunc("POST /files", s.upload)
	mux.HandleFunc("POST /files/compose", s.compose)
	mux.HandleFunc("GET /metrics", s.metrics)
	mux.HandleFunc("GET /envs", s.envs)
	mux.HandleFunc("/", notFound)
	return s.gate(keepLifetime(mux))
}

// notFound answers requests to paths that the protocol does not have, or has for the host
// agent of other products alone.
func notFound(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, http.StatusNotFound, struct {
		Message string `json:"message"`
		Path    string `json:"path"`
		Code    int    `json:"code"`
	}{"there is no such endpoint", r.URL.Path, http.StatusNotFound})
}

// envs serves GET /envs: the environment of the sandbox.
func (s *Server) envs(w http.ResponseWriter, r *http.Request) {
	envs := agent.EpochOf(r.Context()).Envs
	if envs == nil {
		envs = map[string]string{}
	}
	writeJSON(w, http.StatusOK, envs)
}

// Serve serves HTTP/1.1 and cleartext HTTP/2 on l until ctx ends. Then it waits a
// moment for requests to end and closes every connection.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Handler:           s.Handler(),
		Protocols:         protocols,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams, WriteByteTimeout: agent.IdleTimeLimit},
		MaxHeaderBytes:    maxHeaderBytes,
		ReadHeaderTimeout: agent.OpeningTimeLimit,
		IdleTimeout:       agent.IdleTimeLimit,
		ConnState:         s.track,
		ConnContext:       func(ctx context.Context, conn net.Conn) context.Context { return agent.OnConnection(ctx, conn) },
		ErrorLog:          slog.NewLogLogger(s.agent.Log().Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener.Bound(l)) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	s.watchers.Close()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	if server.Shutdown(grace) != nil {
		_ = server.Close()
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// track enters new connections into the agent's registry, as ConnState wants it.
func (s *Server) track(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.agent.Connections().Add(conn)
	case http.StateClosed, http.StateHijacked:
		s.agent.Connections().Remove(conn)
	}
}
