package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/internal/cli"
	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/host/doctor"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/kvmprobe"
)

type doctorConfig struct {
	data     dataSettings
	database databaseSettings
	host     hostSettings
}

func (p program) addDoctor() {
	cfg := new(doctorConfig)
	cmd := &cobra.Command{
		Use:         "doctor [flags]",
		Annotations: map[string]string{printsJSON: ""},
		Short:       "Say what this machine can do and what it lacks",
		Long:        "Say what this machine can do as a host of sandboxes, and what is missing, with the command that mends it.\nIt ends with code 1 when sandboxes cannot run.",
	}
	p.add(p.app.Root(), cmd, config{&cfg.data, &cfg.database, &cfg.host}, func(ctx context.Context, _ []string) error {
		dirs := cfg.data.layout()
		checks := doctor.Run(ctx, doctor.Config{
			Data: dirs.dataFS(), DiskReserveBytes: host.DefaultDiskReserveBytes, ImageDir: dirs.images(),
			Acceleration: kvmprobe.Policy(cfg.host.acceleration), QEMU: cfg.host.qemu,
			ExternalDatabase: cfg.database.url.value != "",
		})
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
