package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/wrenn-dev/wrenn/internal/cli"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/rest"
	"github.com/wrenn-dev/wrenn/internal/control/traffic"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/host/image"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/kvmprobe"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// dataSettings name the data directory.
type dataSettings struct {
	dataDir string
}

const defaultDataDir = cli.DefaultDataDir

func (s *dataSettings) flags(f flagSet) {
	f.StringVar(&s.dataDir, "data-dir", defaultDataDir, "directory for sandboxes, images and the database")
}

func (s *dataSettings) validate() error {
	if s.dataDir == "" {
		return errors.New("--data-dir must name a directory")
	}
	abs, err := filepath.Abs(s.dataDir)
	s.dataDir = abs
	return err
}

// layout names the parts of the data directory.
func (s *dataSettings) layout() layout { return layout{s.dataDir} }

// logSettings are the form and level of the log.
type logSettings struct {
	format, level string
}

func (s *logSettings) flags(f flagSet) {
	f.StringVar(&s.format, "log-format", "text", "format of the log: text or json")
	f.StringVar(&s.level, "log-level", "info", "lowest level to log: debug, info, warn or error")
}

func (s *logSettings) validate() error {
	if s.format != "text" && s.format != "json" {
		return fmt.Errorf("--log-format must be text or json, not %q", s.format)
	}
	if err := new(slog.Level).UnmarshalText([]byte(s.level)); err != nil {
		return fmt.Errorf("--log-level must be debug, info, warn or error, not %q", s.level)
	}
	return nil
}

// logger returns the log that goes to w. The settings are valid.
func (s *logSettings) logger(w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(s.level))
	options := &slog.HandlerOptions{Level: level}
	if s.format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// databaseSettings select the PostgreSQL server.
type databaseSettings struct {
	// url is empty for the embedded server.
	url         secretSetting
	postgresBin string
}

func (s *databaseSettings) flags(f flagSet) {
	s.url = databaseURL("PostgreSQL server to use instead of the embedded one")
	s.url.flags(f)
	f.StringVar(&s.postgresBin, "postgres-bin", "", "directory of the PostgreSQL server's programs (default: the newest installed)")
}

func (s *databaseSettings) validate() error { return s.url.validate() }

// apiSettings are the settings of the REST API and the control plane.
type apiSettings struct {
	listen string
	// noAuth serves every user of this machine without an API key.
	noAuth bool
	tls    apiTLS
	// domain is that of the ports of sandboxes, see address.
	domain       string
	maxUploadMB  int64
	retention    time.Duration
	minIsolation string
	multiTenant  bool
	// cpuOvercommit is the number of virtual CPUs allowed for each CPU of a host.
	cpuOvercommit float64
}

const defaultListen = "127.0.0.1:8080"

func (s *apiSettings) flags(f flagSet) {
	f.StringVar(&s.listen, "listen", defaultListen, "address of the REST API; addresses other than loopback need --tls auto or --tls-cert and --tls-key")
	f.BoolVar(&s.noAuth, "no-auth", false, "require no API key: every user of this machine may use the API (loopback only)")
	s.tls.flags(f)
	f.StringVar(&s.domain, "domain", traffic.DefaultDomain, "domain below which ports of sandboxes have the names PORT-ID; as https://NAME behind a proxy that speaks TLS")
	f.Int64Var(&s.maxUploadMB, "max-upload-mb", rest.DefaultMaxUploadBytes>>20, "largest upload, in MiB")
	cli.DurationVar(f.FlagSet, &s.retention, "retention", control.DefaultConfig().Retention, "time for which ended sandboxes stay readable")
	f.StringVar(&s.minIsolation, "min-isolation", "", "weakest isolation for every sandbox: process, userspace_kernel or hardware")
	f.Float64Var(&s.cpuOvercommit, "cpu-overcommit", control.DefaultConfig().VCPUsPerCPU, "virtual CPUs allowed for each CPU of a host")
	f.BoolVar(&s.multiTenant, "multi-tenant", false, "use only hosts that can isolate several tenants")
}

func (s *apiSettings) validate() error {
	if _, _, err := net.SplitHostPort(s.listen); err != nil {
		return fmt.Errorf("--listen must be host:port, not %q", s.listen)
	}
	if err := s.tls.validate(); err != nil {
		return err
	}
	if err := s.validateReach(); err != nil {
		return err
	}
	if _, err := s.address(s.listen); err != nil {
		return fmt.Errorf("--domain: %s", fault.As(err).Public)
	}
	if s.maxUploadMB < 1 || s.maxUploadMB > 1<<40>>20 {
		return fmt.Errorf("--max-upload-mb must be from 1 to %d", 1<<40>>20)
	}
	if err := s.control().Validate(); err != nil {
		return fmt.Errorf("--retention, --min-isolation or --cpu-overcommit: %w", err)
	}
	return nil
}

// validateReach refuses to serve other machines in clear text or without keys.
func (s *apiSettings) validateReach() error {
	local, err := onlyLoopback(s.listen)
	switch {
	case err != nil:
		return fmt.Errorf("--listen: %w", err)
	case local:
		return nil
	case s.noAuth:
		return fmt.Errorf("--no-auth allows only this machine, but %s is reachable from others: listen on 127.0.0.1, or leave --no-auth out", s.listen)
	case !s.tls.given():
		return fmt.Errorf("%s is reachable from other machines, to which API keys must not be sent in clear text: give --tls auto, or --tls-cert and --tls-key, "+
			"or listen on 127.0.0.1 behind a proxy that speaks TLS", s.listen)
	}
	return nil
}

// address is the address of the ports of sandboxes, with the port of listen.
func (s *apiSettings) address(listen string) (traffic.Address, error) {
	_, port, err := net.SplitHostPort(listen)
	if err != nil {
		return traffic.Address{}, err
	}
	return traffic.ParseAddress(s.domain, s.tls.given(), port)
}

func (s *apiSettings) control() control.Config {
	cfg := control.DefaultConfig()
	cfg.Retention = s.retention
	cfg.MinIsolation = sandbox.Isolation(s.minIsolation)
	cfg.RequireMultiTenant = s.multiTenant
	cfg.VCPUsPerCPU = s.cpuOvercommit
	return cfg
}

// hostSettings are the settings of the host agent.
type hostSettings struct {
	acceleration    string
	qemu            string
	runtime         runtimeSettings
	nameservers     []string
	network         string
	limits          networkLimits
	archive         archiveSettings
	registries      registrySettings
	memoryReserveMB int
	// memoryOvercommit is the memory promised to sandboxes, as a multiple of the
	// host's memory.
	memoryOvercommit float64
	// diskOvercommit is the disk space promised to sandboxes, as a multiple of the
	// free space.
	diskOvercommit float64
	pools          poolSettings
	// templates are the built-in templates that are prepared at the start.
	templates []string
}

func (s *hostSettings) flags(f flagSet) {
	s.runtime.flags(f)
	f.StringVar(&s.acceleration, "accel", string(kvmprobe.Auto), "acceleration of microVMs: kvm, tcg (software emulation) or auto")
	f.StringVar(&s.qemu, "qemu", "", "QEMU to use (default: qemu-system-x86_64 in PATH)")
	s.archive.flags(f)
	s.registries.flags(f)
	f.StringSliceVar(&s.nameservers, "nameserver", nil, "nameserver for sandboxes, may be repeated (default: those of this machine)")
	f.StringVar(&s.network, "network", "", "IPv4 range of the sandboxes' addresses, such as 10.201.0.0/16 (default: a free one)")
	s.limits.flags(f)
	f.IntVar(&s.memoryReserveMB, "memory-reserve-mb", 0, "memory that sandboxes may not use, in MiB (default 1024)")
	f.Float64Var(&s.memoryOvercommit, "memory-overcommit", 1, "memory promised to sandboxes, as a multiple of the host's; they share unwritten memory")
	f.Float64Var(&s.diskOvercommit, "disk-overcommit", host.DefaultDiskOvercommit, "disk space promised to sandboxes, as a multiple of the free space; disks take space when they are written")
	s.pools.flags(f)
	f.StringSliceVar(&s.templates, "templates", []string{image.Minimal().Name},
		"built-in templates to prepare at the start: "+strings.Join(image.BuiltInNames(), ", "))
}

func (s *hostSettings) validate() error {
	switch kvmprobe.Policy(s.acceleration) {
	case kvmprobe.Auto, kvmprobe.KVM, kvmprobe.TCG:
	default:
		return fmt.Errorf("--accel must be auto, kvm or tcg, not %q", s.acceleration)
	}
	if err := errors.Join(s.runtime.validate(), s.registries.validate()); err != nil {
		return err
	}
	if _, err := recipes(s.templates); err != nil {
		return fmt.Errorf("--templates: %w", err)
	}
	for _, n := range s.nameservers {
		if _, err := netip.ParseAddr(n); err != nil {
			return fmt.Errorf("--nameserver must be an IP address, not %q", n)
		}
	}
	if _, err := netip.ParsePrefix(s.network); s.network != "" && err != nil {
		return fmt.Errorf("--network must be an address range such as 10.201.0.0/16, not %q", s.network)
	}
	if err := s.limits.validate(); err != nil {
		return err
	}
	if s.memoryReserveMB < 0 {
		return fmt.Errorf("--memory-reserve-mb must not be negative")
	}
	if s.diskOvercommit < 1 || s.diskOvercommit > 1000 {
		return fmt.Errorf("--disk-overcommit must be from 1 to 1000")
	}
	if s.memoryOvercommit < 1 || s.memoryOvercommit > 64 {
		return fmt.Errorf("--memory-overcommit must be from 1 to 64")
	}
	return s.pools.validate()
}
