package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/internal/daemon"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/cgroup"
	"github.com/wrenn-dev/wrenn/internal/host/network"
)

type uninstallConfig struct {
	data dataSettings
	sure consent
}

// consent is the confirmation before data is destroyed permanently.
type consent struct{ yes bool }

func (s *consent) flags(f flagSet) {
	f.BoolVar(&s.yes, "yes", false, "destroy every sandbox, snapshot and image of this installation")
}

func (s *consent) validate() error {
	if !s.yes {
		return errors.New("uninstall destroys everything in the data directory: confirm with --yes")
	}
	return nil
}

func (p program) addUninstall() {
	cfg := new(uninstallConfig)
	cmd := &cobra.Command{
		Use:   "uninstall [flags]",
		Short: "Destroy all sandboxes and remove Wrenn's data from this machine",
		Long: "Stop the wrenn up that uses the data directory, destroy its sandboxes, and remove the data directory with\n" +
			"snapshots, images and the database, the sandboxes' networks, the firewall table and the control groups. IPv4\n" +
			"forwarding is turned off if it was off before the first start. Packages and a database given with DATABASE_URL\n" +
			"stay.",
	}
	p.add(p.app.Root(), cmd, config{&cfg.data, &cfg.sure}, func(ctx context.Context, _ []string) error {
		if err := needRoot(os.Geteuid(), "wrenn uninstall"); err != nil {
			return err
		}
		return p.uninstall(ctx, cfg.data.layout(), hostForwarding)
	})
}

// uninstallWait bounds each step that waits for processes.
const uninstallWait = 2 * time.Minute

// uninstall removes an installation. If a step fails, it reports that and still takes
// the others, but keeps the data while processes may use it.
func (p program) uninstall(ctx context.Context, dirs layout, fw forwarding) error {
	if _, err := os.Stat(dirs.lock()); errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(dirs.images()); errors.Is(err, fs.ErrNotExist) {
			p.say("there is no installation in %s", dirs.root)
			return nil
		}
	}
	if err := p.stopUp(ctx, dirs); err != nil {
		return err
	}
	err := errors.Join(killMachines(ctx, dirs), removeNetworks(ctx, dirs))
	if err == nil && !otherAgents() {
		var off bool
		if off, err = fw.restore(); off {
			p.say("IPv4 forwarding is off again, as it was before")
		}
	}
	if err != nil {
		return fault.Wrap(err, fault.Internal, "not_uninstalled", "not everything could be removed; the data in %s is kept", dirs.root)
	}
	if err := dirs.dataFS().Close(); err != nil {
		return err
	}
	return p.removeData(dirs)
}

// removeData removes the parts of the data directory, and the directory itself
// if it is then empty: it may hold other files.
func (p program) removeData(dirs layout) error {
	for _, part := range dirs.parts() {
		if err := os.RemoveAll(part); err != nil {
			return fault.Wrap(err, fault.Internal, "not_uninstalled", "%s cannot be removed", part)
		}
	}
	err := os.Remove(dirs.root)
	switch {
	case err == nil:
		p.say("removed %s with its sandboxes, snapshots, images and database", dirs.root)
	case errors.Is(err, fs.ErrNotExist):
		p.say("there is no data in %s", dirs.root)
	case errors.Is(err, syscall.ENOTEMPTY):
		p.say("removed Wrenn's files from %s; other files are left", dirs.root)
	default:
		return fault.Wrap(err, fault.Internal, "not_uninstalled", "%s cannot be removed", dirs.root)
	}
	return nil
}

// stopUp stops the wrenn up that uses the data directory, if there is one.
func (p program) stopUp(ctx context.Context, dirs layout) error {
	up, err := daemon.Holder(dirs.lock())
	if err != nil {
		return fault.Wrap(err, fault.Internal, "not_found", "cannot tell which process uses %s", dirs.root)
	}
	if up == nil {
		return nil
	}
	defer up.Close()
	p.say("stopping wrenn up (process %d)", up.PID)
	if err := up.Signal(syscall.SIGTERM); err != nil {
		return fault.Wrap(err, fault.Forbidden, "cannot_stop", "process %d cannot be stopped", up.PID)
	}
	ctx, cancel := context.WithTimeout(ctx, uninstallWait)
	defer cancel()
	if err := up.Wait(ctx); err != nil {
		return fault.Wrap(err, fault.Timeout, "not_stopped", "process %d has not ended within %s: look at its log, then try again", up.PID, uninstallWait)
	}
	return nil
}

// killMachines ends the VMs of the installation and removes their control
// groups.
func killMachines(ctx context.Context, dirs layout) error {
	ctx, cancel := context.WithTimeout(ctx, uninstallWait)
	defer cancel()
	groups, err := cgroup.Open(dirs.name(), slog.New(slog.DiscardHandler))
	if err == nil {
		_, err = groups.Sweep(ctx, func(string) bool { return false })
		err = errors.Join(err, groups.Close())
	}
	err = errors.Join(err, endProcesses(ctx, dirs))
	if err != nil {
		return fmt.Errorf("end the VMs: %w", err)
	}
	return nil
}

// endProcesses ends the VM processes of the installation, under any runtime.
// Finding and ending them needs neither QEMU nor runsc.
func endProcesses(ctx context.Context, dirs layout) error {
	var errs []error
	for _, kind := range finders() {
		left, err := kind.Find(dirs.host())
		errs = append(errs, err)
		for _, vm := range left {
			errs = append(errs, kind.KillRecord(ctx, vm))
		}
	}
	return errors.Join(errs...)
}

// removeNetworks removes the sandboxes' networks and the pool's rules. The
// pool's last step removes its table once no network is left.
func removeNetworks(ctx context.Context, dirs layout) error {
	pool, err := network.Open(network.Config{Name: dirs.name()}, slog.New(slog.DiscardHandler))
	if err == nil {
		_, err = pool.Sweep(ctx, func(string) bool { return false })
		err = errors.Join(err, pool.Close())
	}
	if err != nil {
		return fmt.Errorf("remove the networks: %w", err)
	}
	return nil
}
