package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/postgres"
	"github.com/wrenn-dev/wrenn/internal/control/templates"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// templateSettings are the settings of template builds.
type templateSettings struct {
	maxBuilds int
	// layers and layersMB bound the cache of layers.
	layers   int
	layersMB int64
	uploads  string
	// ownUploads says that the directory of uploads is chosen by a flag.
	ownUploads bool
}

const defaultUploads = "/var/lib/wrenn/uploads"

func (s *templateSettings) flags(f flagSet) {
	f.IntVar(&s.maxBuilds, "max-builds", 2, "template builds that are carried out at once; others wait")
	f.IntVar(&s.layers, "build-cache-layers", 100, "layers of template builds that are kept for later builds; 0 keeps none")
	f.Int64Var(&s.layersMB, "build-cache-mb", 20<<10, "space of these layers on the hosts, in MiB")
	if s.ownUploads {
		f.StringVar(&s.uploads, "uploads-dir", defaultUploads, "directory of uploads for template builds; servers of one database share it")
	}
}

func (s *templateSettings) validate() error {
	if s.maxBuilds < 1 || s.maxBuilds > 1000 || s.layers < 0 || s.layersMB < 1 || s.layersMB > 1<<40 {
		return errors.New("--max-builds, --build-cache-layers and --build-cache-mb are out of range")
	}
	return nil
}

// service returns the service of template builds, whose uploads are in dir.
func (s templateSettings) service(store *postgres.Store, machines *control.Service, dir string, log *slog.Logger) (*templates.Service, error) {
	layers := s.layers
	if layers == 0 {
		layers = -1
	}
	return templates.New(templates.Config{
		Store: store.Templates(), Machines: machines, Server: machines.ServerID(), Dir: dir, Log: log,
		MaxBuilds: s.maxBuilds, MaxLayers: layers, MaxLayerBytes: uint64(s.layersMB) << 20,
	})
}

// runLoops runs the loops of the control plane, and template builds once it is live.
func runLoops(ctx context.Context, service *control.Service, builds *templates.Service, ready func()) error {
	live := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- fault.Caught(func() error {
			select {
			case <-live:
				return builds.Run(ctx)
			case <-ctx.Done():
				return nil
			}
		})
	}()
	err := service.Run(ctx, func() { close(live); ready() })
	return errors.Join(err, <-done)
}
