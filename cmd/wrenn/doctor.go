package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/internal/cli"
	"github.com/wrenn-dev/wrenn/internal/daemon"
	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/host/doctor"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/kvmprobe"
)

type doctorConfig struct {
	data     dataSettings
	database databaseSettings
	host     hostSettings
	start    startSettings
}

// startSettings are the settings of the server whose start doctor checks.
type startSettings struct {
	listen       string
	beforeImages bool
}

func (s *startSettings) flags(f flagSet) {
	f.StringVar(&s.listen, "listen", defaultListen, "address of the REST API, to check whether it is free")
	f.BoolVar(&s.beforeImages, "before-images", false, "skip guest kernel and templates, which the first start prepares")
}

func (s *startSettings) validate() error {
	if _, _, err := net.SplitHostPort(s.listen); err != nil {
		return fmt.Errorf("--listen is host:port, not %q", s.listen)
	}
	return nil
}

// doctorConfig returns the configuration of the checks for this installation.
func (p program) doctorConfig(cfg *doctorConfig) doctor.Config {
	dirs := cfg.data.layout()
	out := doctor.Config{
		Data: dirs.dataFS(), DiskReserveBytes: host.DefaultDiskReserveBytes, ImageDir: dirs.images(),
		Acceleration: kvmprobe.Policy(cfg.host.acceleration), QEMU: cfg.host.qemu,
		Runtime: cfg.host.runtime.preference().Runtime, Runsc: cfg.host.runtime.runsc, BuiltRunsc: dirs.builtRunsc(),
		ExternalDatabase: cfg.database.url.value != "",
		Listen:           cfg.start.listen, BeforeImages: cfg.start.beforeImages, Name: dirs.name(),
	}
	agent := hostAgent{host: cfg.host, dirs: dirs, log: slog.New(slog.DiscardHandler)}.network()
	out.Nameservers, out.Network = agent.Nameservers, agent.Prefix
	if p.io.Program != "wrenn" && p.io.Program != "" {
		// A fix must work in any directory and with any PATH.
		if path, err := os.Executable(); err == nil {
			out.Program = path
		}
	}
	if dirs.root != defaultDataDir {
		out.DataDirFlag = dirs.root
	}
	if up, err := daemon.Holder(dirs.lock()); err == nil && up != nil {
		out.ServerPID = up.PID
		up.Close()
	}
	return out
}

func (p program) addDoctor() {
	cfg := new(doctorConfig)
	cmd := &cobra.Command{
		Use:         "doctor [flags]",
		Annotations: map[string]string{printsJSON: ""},
		Short:       "Check whether this machine can run sandboxes",
		Long:        "Check whether this machine can run sandboxes, and print the command that fixes each problem. The exit code is 1\nif sandboxes cannot run.",
	}
	p.add(p.app.Root(), cmd, config{&cfg.data, &cfg.database, &cfg.host, &cfg.start}, func(ctx context.Context, _ []string) error {
		checks := doctor.Run(ctx, p.doctorConfig(cfg))
		checks = append(checks, keyCheck(cfg.data.layout().apiKey()))
		if err := p.printChecks(checks); err != nil {
			return err
		}
		if doctor.Failed(checks) {
			return cli.ExitCode(1)
		}
		return nil
	})
}

func (p program) printChecks(checks []doctor.Check) error {
	if p.app.JSON() {
		return p.printJSON(checks)
	}
	_, err := fmt.Fprint(p.io.Out, doctor.Text(checks))
	return err
}

func (p program) printJSON(v any) error {
	enc := json.NewEncoder(p.io.Out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
