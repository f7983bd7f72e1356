package main

import (
	"context"
	"log/slog"
	"net/netip"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/host/cgroup"
	"github.com/wrenn-dev/wrenn/internal/host/image"
	"github.com/wrenn-dev/wrenn/internal/host/instance"
	"github.com/wrenn-dev/wrenn/internal/host/network"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
	"github.com/wrenn-dev/wrenn/internal/undo"
)

// machines is an open host manager with the resources that it uses.
type machines struct {
	manager *host.Manager
	opened  undo.Stack
}

// close releases the resources and leaves VMs and their networks running.
func (m *machines) close(log *slog.Logger) {
	if err := m.opened.Run(context.Background()); err != nil {
		log.Error("the host agent did not close cleanly", "error", err)
	}
}

// open opens the host manager and returns once it has taken over the sandboxes of an
// earlier agent.
func (a hostAgent) open(ctx context.Context) (*machines, error) {
	m := new(machines)
	if err := a.openInto(ctx, m); err != nil {
		m.close(a.log)
		return nil, err
	}
	return m, nil
}

func (a hostAgent) openInto(ctx context.Context, m *machines) error {
	registries, err := a.host.registries.policy()
	if err != nil {
		return err
	}
	images, err := a.host.archive.open(a.dirs, a.log, image.WithRegistries(registries))
	if err != nil {
		return err
	}
	deps := host.Deps{GuestVersion: version, Log: a.log, Images: images, Finders: finders()}
	if deps.Drivers, err = a.drivers(ctx, images); err != nil {
		return err
	}
	if err := hostForwarding.remember(); err != nil {
		return err
	}
	pool, err := network.Open(a.network(), a.log)
	if err != nil {
		return err
	}
	_ = m.opened.Push("network", func(context.Context) error { return pool.Close() })
	groups, err := cgroup.Open(a.dirs.name(), a.log)
	if err != nil {
		return err
	}
	_ = m.opened.Push("cgroups", func(context.Context) error { return groups.Close() })
	deps.Network, deps.Cgroups = instance.NetworkOf(pool), instance.CgroupsOf(groups)
	cfg := host.Config{
		Dir: a.dirs.host(), HostID: a.id, Version: version,
		Prepare: a.host.prepared(),
		Pools:   a.host.pools.kinds, MemoryOvercommit: a.host.memoryOvercommit, DiskOvercommit: a.host.diskOvercommit,
		MemoryReserveMB: a.host.memoryReserveMB, Nameservers: addresses(pool.Nameservers()),
	}
	if m.manager, err = host.Open(ctx, cfg, deps); err != nil {
		return err
	}
	return m.opened.Push("manager", func(context.Context) error { return m.manager.Close() })
}

func (a hostAgent) network() network.Config {
	// It is valid; empty is the zero prefix, for which the pool chooses one.
	prefix, _ := netip.ParsePrefix(a.host.network)
	return network.Config{
		Name: a.dirs.name(), Prefix: prefix, Nameservers: nameservers(a.host.nameservers, a.log), Limits: a.host.limits.config(),
	}
}

// prepareImages returns the guest kernel and initramfs. It builds them and the named
// templates if they are missing.
func prepareImages(ctx context.Context, store *image.Store, names []string, progress image.Progress) (image.Kernel, image.Initramfs, error) {
	guest, err := guestBinary()
	if err != nil {
		return image.Kernel{}, image.Initramfs{}, err
	}
	kernel, err := store.Kernel()
	if fault.Is(err, fault.NotFound) {
		kernel, err = store.EnsureKernel(ctx, progress)
	}
	if err != nil {
		return image.Kernel{}, image.Initramfs{}, err
	}
	if err := prepareTemplates(ctx, store, names, progress); err != nil {
		return image.Kernel{}, image.Initramfs{}, err
	}
	initramfs, err := store.EnsureInitramfs(ctx, kernel, guest)
	return kernel, initramfs, err
}

// prepareTemplates builds the named built-in templates that are missing.
func prepareTemplates(ctx context.Context, store *image.Store, names []string, progress image.Progress) error {
	chosen, err := recipes(names)
	if err != nil {
		return err
	}
	for _, recipe := range chosen {
		_, err := store.Template(recipe.Name)
		if fault.Is(err, fault.NotFound) {
			_, err = store.EnsureTemplate(ctx, recipe, progress)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// prepared lists the kinds of sandbox whose template snapshots are made when the agent
// starts: those of the default size.
func (s *hostSettings) prepared() []sandbox.Spec {
	var out []sandbox.Spec
	for _, name := range s.templates {
		out = append(out, sandbox.Spec{Template: name}.WithDefaults())
	}
	return out
}

// logProgress logs the stages of a build.
func logProgress(log *slog.Logger) image.Progress {
	last := ""
	return func(e image.Event) {
		level := slog.LevelDebug
		if e.Stage != last {
			level, last = slog.LevelInfo, e.Stage
		}
		log.Log(context.Background(), level, "preparing images", "stage", e.Stage, "detail", e.Detail)
	}
}

func addresses(list []netip.Addr) []string {
	out := make([]string, len(list))
	for i, a := range list {
		out[i] = a.String()
	}
	return out
}
