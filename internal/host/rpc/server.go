package rpc

import (
	"context"
	"crypto/subtle"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/wrenn-dev/wrenn/api/gen/host/v1/hostv1connect"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/fault/faultrpc"
	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/tunnel"
)

// Bounds of one message of the protocol, in bytes. A command with its stdin is
// the largest that comes in, with about 1 MiB; the list of a full host goes out.
const (
	maxReceived = 4 << 20
	maxSent     = 32 << 20
)

// NewHandler serves m. An empty token serves everybody who can connect, for a
// unix socket; otherwise every call needs it as a bearer token.
func NewHandler(m *host.Manager, token string, log *slog.Logger) (http.Handler, error) {
	if m == nil || log == nil {
		return nil, fault.New(fault.Internal, "internal", "rpc.NewHandler misses a dependency")
	}
	mux, svc := http.NewServeMux(), &service{manager: m, log: log}
	mux.HandleFunc(tunnel.Path, svc.openTunnel)
	mux.Handle(hostv1connect.NewHostServiceHandler(svc,
		connect.WithReadMaxBytes(maxReceived), connect.WithSendMaxBytes(maxSent), connect.WithRecover(recovered(log))))
	if token == "" {
		return mux, nil
	}
	return requireToken(mux, token), nil
}

// recovered makes an internal error of a panic in a call, and logs its stack.
func recovered(log *slog.Logger) func(context.Context, connect.Spec, http.Header, any) error {
	return func(ctx context.Context, spec connect.Spec, _ http.Header, v any) error {
		err := fault.Panicked(v)
		log.ErrorContext(ctx, "a call panicked", "call", spec.Procedure, "error", err)
		return faultrpc.ToConnect(err)
	}
}

func requireToken(next http.Handler, token string) http.Handler {
	refuse := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok || subtle.ConstantTimeCompare([]byte(got), []byte(token)) != 1 {
			_ = refuse.Write(w, r, faultrpc.ToConnect(fault.New(fault.Unauthenticated, "unauthenticated", "the host agent needs its token")))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// shutdownGrace is how long open calls may take to end when the agent stops.
const shutdownGrace = 3 * time.Second

// Serve serves handler on l until ctx ends, then waits for open calls a moment
// and breaks the rest. There is no write timeout: a command may run for hours.
func Serve(ctx context.Context, l net.Listener, handler http.Handler) error {
	srv := &http.Server{
		Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 64 << 10, Protocols: new(http.Protocols),
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetHTTP2(true) // where l speaks TLS
	srv.Protocols.SetUnencryptedHTTP2(true)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	if err := srv.Shutdown(grace); err != nil {
		_ = srv.Close()
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
