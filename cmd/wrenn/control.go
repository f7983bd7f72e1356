package main

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/auth"
	"github.com/wrenn-dev/wrenn/internal/control/hostclient"
	"github.com/wrenn-dev/wrenn/internal/control/postgres"
	"github.com/wrenn-dev/wrenn/internal/control/rest"
	"github.com/wrenn-dev/wrenn/internal/daemon"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// controlPlane is the control plane before it is started.
type controlPlane struct {
	api         apiSettings
	databaseURL string
	hosts       []hostclient.Member
	// keyCommand makes an API key for this installation.
	keyCommand string
	log        *slog.Logger
}

// component returns the control plane as a part of a process. It stops the
// REST API first, then the loops, then lets the database go.
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
	keys, err := auth.New(store)
	if err != nil {
		return err
	}
	listener, err := c.listen(ctx)
	if err != nil {
		return err
	}
	defer listener.Close()
	access, err := c.access(ctx, listener.Addr(), keys)
	if err != nil {
		return err
	}
	handler, err := rest.New(rest.Config{
		Sandboxes: service, Access: access, Log: c.log, Version: version, MaxUploadBytes: c.api.maxUploadMB << 20,
	})
	if err != nil {
		return err
	}
	return daemon.Run(ctx, c.log,
		daemon.Component{Name: "loops", Run: func(ctx context.Context, ready func()) error {
			ready()
			return service.Run(ctx)
		}},
		daemon.Component{Name: "rest", StopTimeout: 20 * time.Second, Run: func(ctx context.Context, restReady func()) error {
			restReady()
			ready()
			c.log.Info("the REST API is served", "url", "http://"+listener.Addr().String(), "docs", "http://"+listener.Addr().String()+"/docs")
			return rest.Serve(ctx, listener, handler, c.log)
		}})
}

func (c controlPlane) listen(ctx context.Context) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", c.api.listen)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "cannot_listen",
			"cannot listen on %s: is another server there? Choose another address with --listen", c.api.listen)
	}
	return l, nil
}

// access decides who may come in at addr: those with a key, once there is one;
// before, everybody on this machine, and nobody else ever.
func (c controlPlane) access(ctx context.Context, addr net.Addr, keys *auth.Service) (rest.Access, error) {
	any, err := keys.Any(ctx)
	if err != nil {
		return rest.Access{}, err
	}
	tcp, ok := addr.(*net.TCPAddr)
	loopback := ok && tcp.IP.IsLoopback()
	switch {
	case any:
		return rest.RequireKey(keys), nil
	case loopback:
		c.log.Warn("there are no API keys: everyone on this machine may use the API", "make_one", c.keyCommand)
		return rest.OpenOnLoopback(), nil
	default:
		return rest.Access{}, fault.New(fault.Forbidden, "no_api_keys",
			"refusing to listen on %s without API keys: make one with `%s`, then start again", addr, c.keyCommand)
	}
}
