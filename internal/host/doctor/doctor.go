// Package doctor checks whether this machine can host sandboxes, and names each
// missing part with the command that fixes it.
//
// The doctor command calls it. It changes nothing that lasts: the things that it
// makes for its checks (a namespace, two nameless files, a test guest, a sandbox's
// network) are gone when Run returns. It never decides anything for the host agent,
// which draws its own conclusions from the same packages.
package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"

	"github.com/wrenn-dev/wrenn/internal/host/datafs"
	"github.com/wrenn-dev/wrenn/internal/host/network"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/kvmprobe"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Status is the outcome of one check.
type Status string

// The outcomes.
const (
	OK   Status = "ok"
	Warn Status = "warn" // works, with the limit that Detail describes
	Fail Status = "fail" // sandboxes cannot run
)

// Check is one check with its outcome.
type Check struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	// Found describes the state found, in a few words.
	Found string `json:"found"`
	// Detail explains the consequence; empty where Found is enough.
	Detail string `json:"detail,omitempty"`
	// Fix is a command that fixes the matter when this user types it; empty
	// where no command does.
	Fix string `json:"fix,omitempty"`

	missing bool // the program looked for is not installed
}

// Config holds the settings that the host agent of this machine would start with.
type Config struct {
	// Data is where sandboxes are kept; it need not exist yet, and need not
	// have a file system of its own.
	Data datafs.Place
	// DiskReserveBytes is the free space below which sandboxes are refused.
	DiskReserveBytes uint64
	// ImageDir holds kernels and templates; it need not exist yet.
	ImageDir string
	// Acceleration is the operator's wish.
	Acceleration kvmprobe.Policy
	// Runtime is the runtime that the operator prefers, empty for the host's choice.
	// Runsc is the path of the operator's own runsc, or empty for the newest one in
	// the directory BuiltRunsc.
	Runtime           sandbox.Runtime
	Runsc, BuiltRunsc string
	// QEMU is the VMM's path, or a name to look for in PATH; empty is
	// qemu-system-x86_64.
	QEMU string
	// ExternalDatabase is set where the control plane is given a PostgreSQL
	// server, so that none of this machine's is needed.
	ExternalDatabase bool
	// Listen is the address of the REST API, 127.0.0.1:8080 if empty. ServerPID
	// is the wrenn up that uses the data directory, 0 where none runs.
	Listen    string
	ServerPID int
	// BeforeImages leaves out guest kernel and templates, as before a first
	// start, which prepares them.
	BeforeImages bool
	// Nameservers are those that sandboxes get. Network is the range of their
	// addresses; the zero value has one chosen.
	Nameservers []netip.Addr
	Network     netip.Prefix
	// Name begins the names of the sandboxes' devices, "wrenn" if empty.
	Name string
	// Program starts wrenn in the commands of Fix, "wrenn" if empty.
	// DataDirFlag is the data directory where that is not the default.
	Program, DataDirFlag string
}

// Run makes all checks, in some seconds where KVM, a nameserver or the outside
// does not answer, and else in less than one. It always
// returns every check; those cut short by ctx say so.
func Run(ctx context.Context, cfg Config) []Check {
	if cfg.QEMU == "" {
		cfg.QEMU = defaultQEMU
	}
	if cfg.Listen == "" {
		cfg.Listen = defaultListen
	}
	if cfg.Name == "" {
		cfg.Name = network.DefaultName
	}
	var outside []Check
	var looking sync.WaitGroup // beside the probe of KVM, which takes as long
	looking.Go(func() { outside = checkOutside(ctx, cfg) })
	probe := kvmprobe.Probe(ctx)
	installed := findRunsc(ctx, cfg)
	hypervisor, sentries := checkQEMU(ctx, cfg.QEMU), checkGVisor(cfg, probe, installed)
	hypervisor = orGVisor(hypervisor, cfg, installed)
	checks := []Check{
		checkOS(),
		checkRights(cfg),
		checkCPUs(),
		checkMemory(),
		checkKVM(probe),
		checkAcceleration(cfg.Acceleration, probe),
		hypervisor,
		sentries,
		checkRuntime(cfg, probe, installed, hypervisor),
		checkBuilds(cfg.Data.Dir, cfg.QEMU),
		checkTun(),
		checkNetwork(),
		checkForwarding(cfg.Name),
		checkHidden(),
		checkCgroups(),
		checkTasks(sentries.Status == OK && installed.err == nil),
		checkPort(cfg.Listen, cfg.ServerPID),
	}
	looking.Wait()
	checks = append(checks, outside...)
	checks = append(checks, checkData(cfg)...)
	if !cfg.BeforeImages {
		checks = append(checks, checkImages(cfg)...)
	}
	checks = append(checks, checkTools()...)
	if !cfg.ExternalDatabase {
		checks = append(checks, checkPostgres())
	}
	return finish(checks)
}

// Failed reports whether sandboxes cannot run.
func Failed(checks []Check) bool {
	for _, c := range checks {
		if c.Status == Fail {
			return true
		}
	}
	return false
}

// String is the check as a line of text, with its detail and its fix on lines
// of their own below.
func (c Check) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-4s  %-14s %s", c.Status, c.Name, c.Found)
	if c.Detail != "" {
		fmt.Fprintf(&b, "\n%21s%s", "", c.Detail)
	}
	if c.Fix != "" {
		fmt.Fprintf(&b, "\n%21sfix: %s", "", c.Fix)
	}
	return b.String()
}

// Text is all checks, one below the other.
func Text(checks []Check) string {
	var b strings.Builder
	for _, c := range checks {
		fmt.Fprintln(&b, c)
	}
	return b.String()
}
