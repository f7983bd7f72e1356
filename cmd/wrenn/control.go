package main

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/auth"
	"github.com/wrenn-dev/wrenn/internal/control/e2b"
	"github.com/wrenn-dev/wrenn/internal/control/hostclient"
	"github.com/wrenn-dev/wrenn/internal/control/postgres"
	"github.com/wrenn-dev/wrenn/internal/control/rest"
	"github.com/wrenn-dev/wrenn/internal/control/templates"
	"github.com/wrenn-dev/wrenn/internal/control/traffic"
	"github.com/wrenn-dev/wrenn/internal/daemon"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// controlPlane is the control plane before it is started.
type controlPlane struct {
	api         apiSettings
	databaseURL string
	hosts       []hostclient.Member
	builds      templateSettings
	// uploads is the directory of uploads for template builds.
	uploads string
	// keyCommand is the command that makes an API key for this installation.
	keyCommand string
	// keyFile holds this machine's own key, which is made if it is missing.
	// Empty is a control plane without one.
	keyFile string
	// authorityDir holds the certificate authority of --tls auto, unless a flag names it.
	authorityDir string
	log          *slog.Logger
}

// component returns the control plane as a part of a process. It stops the REST
// API first, then the loops, then closes the database.
func (c controlPlane) component() daemon.Component {
	return daemon.Component{Name: "control plane", Run: c.run, StopTimeout: 45 * time.Second}
}

func (c controlPlane) run(ctx context.Context, ready func()) error {
	store, err := postgres.Open(ctx, c.databaseURL, c.log)
	if err != nil {
		return err
	}
	defer store.Close()
	fleet, err := hostclient.NewFleet(c.hosts)
	if err != nil {
		return err
	}
	defer fleet.Close()
	service, err := control.New(c.api.control(), store, fleet, c.log)
	if err != nil {
		return err
	}
	builds, err := c.builds.service(store, service, c.uploads, c.log)
	if err != nil {
		return err
	}
	keys, err := auth.New(store)
	if err != nil {
		return err
	}
	listener, err := c.listen(ctx)
	if err != nil {
		return err
	}
	defer listener.Close()
	access, err := c.access(ctx, keys)
	if err != nil {
		return err
	}
	handler, err := c.handler(service, builds, store, access, listener.Addr().String())
	if err != nil {
		return err
	}
	return daemon.Run(ctx, c.log,
		daemon.Component{Name: "loops", Run: func(ctx context.Context, ready func()) error {
			return runLoops(ctx, service, builds, ready)
		}},
		daemon.Component{Name: "rest", StopTimeout: 20 * time.Second, Run: func(ctx context.Context, restReady func()) error {
			restReady()
			ready()
			url := c.scheme() + "://" + listener.Addr().String()
			c.log.Info("the REST API is served", "url", url, "docs", url+"/docs")
			return rest.Serve(ctx, listener, handler, c.log)
		}})
}

// handler returns the handler of the REST API, with those of E2B's dialect and of the
// sandboxes' ports before it. listen is the address at which it is served.
func (c controlPlane) handler(service *control.Service, builds templates.API, store *postgres.Store, access rest.Access, listen string) (http.Handler, error) {
	address, err := c.api.address(listen)
	if err != nil {
		return nil, err
	}
	api, err := rest.New(rest.Config{
		Sandboxes: service, Answers: store, Secrets: store, Access: access, Log: c.log, Version: version,
		MaxUploadBytes: c.api.maxUploadMB << 20, PortURL: address.PortURL, Templates: builds,
	})
	if err != nil {
		return nil, err
	}
	api = e2b.New(e2b.Config{
		Sandboxes: service, Templates: builds, Enter: access.Enter, Answers: store, Secrets: store, MaxUploadBytes: c.api.maxUploadMB << 20,
		Domain: address.Authority(), Next: api, Log: c.log,
	})
	return traffic.New(traffic.Config{Sandboxes: service, Admit: access.Admit, Domain: address.Domain, Next: api, Log: c.log})
}

// listen opens the address of the REST API. An address that other machines can
// reach requires TLS. Names are looked up again here, so the check uses the
// opened address.
func (c controlPlane) listen(ctx context.Context) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", c.api.listen)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "cannot_listen",
			"cannot listen on %s: is another server there? Choose another address with --listen", c.api.listen)
	}
	if c.api.tls.given() {
		config, err := c.tls(ctx, l.Addr())
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		return tls.NewListener(l, config), nil
	}
	if tcp, ok := l.Addr().(*net.TCPAddr); !ok || !tcp.IP.IsLoopback() {
		_ = l.Close()
		return nil, fault.New(fault.Invalid, "clear_text",
			"%s is reached from other machines, where API keys must not travel in clear text: give --tls auto, or --tls-cert and --tls-key", l.Addr())
	}
	return l, nil
}

// tls returns the server's side of TLS at an address.
func (c controlPlane) tls(ctx context.Context, listen net.Addr) (*tls.Config, error) {
	address, err := c.api.address(listen.String())
	if err != nil {
		return nil, err
	}
	return c.api.tls.config(ctx, c.authorityDir, address.Domain, listen)
}

// tryListen returns the error of listening on the address, before the start
// spends minutes on other work.
func (c controlPlane) tryListen(ctx context.Context) error {
	l, err := c.listen(ctx)
	if err != nil {
		return err
	}
	return l.Close()
}

func (c controlPlane) scheme() string {
	if c.api.tls.given() {
		return "https"
	}
	return "http"
}

// access admits callers with a key or, with --no-auth, every user of this
// machine. A server may start before the first key exists; the key is valid as
// soon as it is made.
func (c controlPlane) access(ctx context.Context, keys *auth.Service) (rest.Access, error) {
	if c.api.noAuth {
		c.log.Warn("the API is open: with --no-auth everyone on this machine may use every sandbox")
		return rest.OpenOnLoopback(), nil
	}
	if c.keyFile != "" {
		if err := ensureLocalKey(ctx, keys, c.keyFile, c.log); err != nil {
			return rest.Access{}, err
		}
	}
	any, err := keys.Any(ctx)
	if err != nil {
		return rest.Access{}, err
	}
	if !any {
		c.log.Warn("there are no API keys, so every request is refused until one is made", "make_one", c.keyCommand)
	}
	return rest.RequireKey(keys), nil
}
