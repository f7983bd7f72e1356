package rpc

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
	"github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1/guestv1connect"
	"github.com/wrenn-dev/wrenn/internal/guest/filesystem"
	"github.com/wrenn-dev/wrenn/internal/guest/process"
)

// Port is where every guest serves HTTP. The lean channel has a port of its own,
// guestwire.Port.
const Port = 49983

// Limits of the server.
const (
	maxHeaderBytes  = 64 << 10
	maxMessageBytes = 4 << 20
	maxStreams      = 256
	headerTimeLimit = 10 * time.Second
	idleTimeLimit   = 2 * time.Minute
	shutdownGrace   = 2 * time.Second
)

// Config is what a Server works with. Every field is required.
type Config struct {
	Processes *process.Table
	Accounts  *filesystem.Accounts
	Kernel    Kernel
	Identity  Identity
	Freezer   Freezer
	Vault     Vault
	Orphans   Orphans
	Log       *slog.Logger
	// Version names the build of the guest.
	Version string
}

// Server serves the guest protocol.
type Server struct {
	processes *process.Table
	accounts  *filesystem.Accounts
	files     *filesystem.Files
	watchers  *filesystem.Watchers
	kernel    Kernel
	identity  Identity
	freezer   Freezer
	orphans   Orphans
	log       *slog.Logger
	version   string
	state     state
	conns     connections
	load      loadMeter
	// turn is held by the one Configure, Quiesce, Hold or Release under way.
	turn chan struct{}
	// pending are the settings of a Configure that holds, until Release. It is
	// owned by whoever has the turn.
	pending *settings
	// ensured are the users that Configure has made exist; whoever holds turn
	// owns it.
	ensured []filesystem.User
}

// NewServer returns a sealed server, or an open one if c.Vault holds the
// settings of an earlier agent of this boot. With a broken vault it is sealed.
func NewServer(c Config) *Server {
	if c.Processes == nil || c.Accounts == nil || c.Kernel == nil || c.Identity == nil || c.Freezer == nil || c.Vault == nil || c.Orphans == nil || c.Log == nil {
		panic("rpc: Config is incomplete")
	}
	files := filesystem.NewFiles(c.Accounts)
	s := &Server{
		processes: c.Processes, accounts: c.Accounts, files: files, watchers: filesystem.NewWatchers(files),
		kernel: c.Kernel, identity: c.Identity, freezer: c.Freezer, orphans: c.Orphans, log: c.Log, version: c.Version,
		state: state{vault: c.Vault},
		conns: connections{open: make(map[net.Conn]struct{})}, turn: make(chan struct{}, 1),
	}
	if err := s.state.recover(); err != nil {
		s.log.Error("sealed after a restart", slog.Any("error", err))
	}
	return s
}

// Handler returns the whole protocol.
func (s *Server) Handler() http.Handler {
	// Answers are never compressed: the protocol's clients do not ask for it,
	// and guest CPU is dearer than the wire to the host.
	options := []connect.HandlerOption{
		connect.WithReadMaxBytes(maxMessageBytes),
		connect.WithCompression("gzip", nil, nil),
	}
	mux := http.NewServeMux()
	mux.Handle(processconnect.NewProcessHandler(processService{s}, options...))
	mux.Handle(filesystemconnect.NewFilesystemHandler(filesystemService{s}, options...))
	mux.Handle(guestv1connect.NewGuestHandler(guestService{s}, options...))
	mux.HandleFunc("GET /files", s.download)
	mux.HandleFunc("POST /files", s.upload)
	mux.HandleFunc("GET /metrics", s.metrics)
	mux.HandleFunc("GET /envs", s.envs)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		writeError(w, http.StatusNotFound, "there is no such endpoint")
	})
	return s.gate(keepLifetime(mux))
}

// envs serves GET /envs: the environment of the whole sandbox.
func (s *Server) envs(w http.ResponseWriter, r *http.Request) {
	envs := epochOf(r.Context()).Envs
	if envs == nil {
		envs = map[string]string{}
	}
	writeJSON(w, http.StatusOK, envs)
}

// Serve answers on l, HTTP/1.1 and cleartext HTTP/2, until ctx ends; then it
// gives requests a moment to end and closes every connection.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Handler:           s.Handler(),
		Protocols:         protocols,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		MaxHeaderBytes:    maxHeaderBytes,
		ReadHeaderTimeout: headerTimeLimit,
		IdleTimeout:       idleTimeLimit,
		ConnState:         s.conns.track,
		ConnContext:       mark,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(newBoundedListener(l)) }()
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
