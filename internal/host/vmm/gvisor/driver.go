package gvisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/runsc"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/tsc"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Name is the driver's name in records and in the API.
const Name = "gvisor"

// Systrap is the way in which guest instructions run: natively, in processes whose
// system calls are trapped.
const Systrap vmm.Acceleration = "systrap"

// Options choose how the driver runs gVisor. All are fixed for its life.
type Options struct {
	// Program is the path of the operator's own runsc. If it is empty, the newest
	// build in the directory Built is used, which `make runsc` fills.
	Program, Built string
	// Builds is the directory in which the driver keeps the builds that sandboxes
	// were started under.
	Builds string
	// Agent is the path of an EROFS image with the program wrenn-guest in its root.
	// The driver keeps a copy.
	Agent string
	// Reason says in a sentence why gVisor was chosen.
	Reason string
	// MaxVCPUs is the most virtual CPUs that a sandbox may have.
	MaxVCPUs int
	// MemoryFloorMB is the available memory of the host, in MiB, below which sandboxes
	// that use more than their share are paused; 0 never pauses any. The share is the
	// memory and 1/DiskOvercommit of the disk. A DiskOvercommit of 0 counts as 1.
	MemoryFloorMB  int
	DiskOvercommit float64
	Log            *slog.Logger
}

// Driver runs sandboxes with gVisor. It is safe for use by several goroutines.
type Driver struct {
	builds   *runsc.Store
	current  runsc.Build // new sandboxes are started under it
	features string
	info     vmm.Info
	guard    *guard
	// diskShare is the part of a disk that the host counts as memory.
	diskShare float64
	log       *slog.Logger
}

var _ vmm.Driver = (*Driver)(nil)

// Source returns where the current program comes from under these options.
func (o Options) Source() runsc.Source {
	return runsc.Source{Program: o.Program, Built: o.Built, Flags: commonFlags()}
}

// New finds the current runsc and keeps a copy of it. A runsc that is new to this host
// has to run a program in a sandbox first. Without an installed one New goes on with
// the newest kept one. It fails with kind Unsupported, reason "vmm_missing", if there
// is none either.
func New(ctx context.Context, o Options) (*Driver, error) {
	if os.Geteuid() != 0 {
		return nil, fault.New(fault.Unsupported, "not_root", "gVisor sandboxes with user ids of their own can only be started by root")
	}
	d := &Driver{
		builds: runsc.Open(o.Builds), features: tsc.Features(), log: o.Log,
		guard: newGuard(o.MemoryFloorMB, o.Log), diskShare: 1 / max(o.DiskOvercommit, 1),
	}
	var err error
	if d.current, err = d.keepCurrent(ctx, o.Source(), o.Agent); err != nil {
		return nil, err
	}
	d.info = vmm.Info{
		Driver: Name, Version: versionOf(d.current), Acceleration: Systrap, Reason: o.Reason,
		Runtime: sandbox.RuntimeGVisor, Isolation: sandbox.IsolationUserspaceKernel, MultiTenant: true, MaxVCPUs: o.MaxVCPUs, GuestKernel: guestKernel,
		Shape: vmm.Shape{
			RestoresRunning: true, DiskInSnapshot: true, DiskInMemory: true, DeltaIsWhole: true, Attachment: vmm.AttachNamespace,
			OverheadMB: overheadMB, GraceMB: graceMB, OverheadCPUs: overheadCPUs, ProcessOverhead: ProcessOverhead,
		},
	}
	return d, nil
}

// keepCurrent keeps the current program of source with the image of the guest agent
// at path agent. If the program that was built is missing or cannot be used, the
// newest kept one takes its place.
func (d *Driver) keepCurrent(ctx context.Context, source runsc.Source, agent string) (runsc.Build, error) {
	b, err := d.keep(ctx, source, agent)
	if err == nil || source.Program != "" {
		return b, err
	}
	kept, keptErr := d.builds.Builds()
	if keptErr != nil || len(kept) == 0 {
		return b, errors.Join(err, keptErr)
	}
	d.log.Warn("new gVisor sandboxes run under a kept build of runsc", "error", err, "version", kept[0].Version)
	source.Program = kept[0].Program()
	return d.keep(ctx, source, agent)
}

func (d *Driver) keep(ctx context.Context, source runsc.Source, agent string) (runsc.Build, error) {
	found, err := source.Find(ctx)
	if err != nil {
		return runsc.Build{}, err
	}
	return d.builds.Keep(ctx, found, agent)
}

// versionOf names a build for people: its version, and the beginning of the digest
// of its program.
func versionOf(b runsc.Build) string { return fmt.Sprintf("%s (%.12s)", b.Version, b.Digest) }

// The most memory, in MiB, and the CPU share that a sentry and its stubs need beside
// the memory and the CPUs of the guest.
const (
	overheadMB   = 128
	overheadCPUs = 0.5
)

// share returns the host's memory, in bytes, that is counted for a sandbox.
func (d *Driver) share(memoryMB, diskMB int) uint64 {
	return uint64((float64(memoryMB) + float64(diskMB)*d.diskShare + overheadMB) * (1 << 20))
}

// ProcessOverhead counts the tasks of the host for each process of the guest, beside
// one for each of its CPUs: the stub process, its thread for system calls, and one
// more thread because a sentry has at least leastCPUs
// (maxChildThreads in pkg/sentry/platform/systrap).
const ProcessOverhead = 3

// guestKernel is the release that the sentry shows to guests.
const guestKernel = "4.19.0-gvisor"

// BootInputs implements vmm.Driver.
func (d *Driver) BootInputs() map[string]string { return map[string]string{"agent": d.current.Agent} }

// Info implements vmm.Driver.
func (d *Driver) Info() vmm.Info { return d.info }

// Fingerprint names the facts that a saved sandbox depends on: the build of runsc
// with the image of the guest agent, because state files have no other version, and
// the processor's features, because programs have looked at them.
func (d *Driver) Fingerprint(cfg vmm.Config) map[string]string {
	build, err := d.build(cfg.Build)
	if err != nil {
		// A build that has gone leaves the entries of the current one, and the
		// comparison then names the difference.
		build = d.current
	}
	fp := map[string]string{
		"driver":                Name,
		"acceleration":          string(Systrap),
		"cpu":                   "host",
		"devices":               "agent " + build.Agent[:16],
		"vcpus":                 fmt.Sprint(cfg.VCPUs),
		"memory_mb":             fmt.Sprint(cfg.MemoryMB),
		vmm.FingerprintFeatures: d.features,
	}
	maps.Copy(fp, fingerprintOf(build))
	return fp
}

// fingerprintOf returns the entries that name a build.
func fingerprintOf(b runsc.Build) map[string]string {
	return map[string]string{
		vmm.FingerprintVersion: b.Version, vmm.FingerprintBinary: b.Digest, vmm.FingerprintFirmware: b.Firmware(),
	}
}

// build returns the build id, or the current one for no id.
func (d *Driver) build(id string) (runsc.Build, error) {
	if id == "" || id == d.current.ID {
		return d.current, nil
	}
	return d.builds.Find(id)
}

// sealOf returns the seal of snapshots of cfg under a build, without files.
func sealOf(cfg vmm.Config, b runsc.Build) seal {
	return seal{
		Runtime: b.Digest, Agent: b.Agent, RootDigest: cfg.RootDigest, RootImage: cfg.RootImage,
		MemoryMB: cfg.MemoryMB, DiskMB: cfg.DiskMB,
	}
}

// BuildOf implements vmm.Driver.
func (d *Driver) BuildOf(saved map[string]string) (string, error) {
	found, err := d.builds.Builds()
	if err != nil {
		return "", err
	}
	for _, b := range found {
		if vmm.SameBuild(saved, fingerprintOf(b)) {
			return b.ID, nil
		}
	}
	return "", fault.New(fault.WrongState, "vmm_build_missing",
		"it was saved under runsc %s (program %s) with a guest agent of that time, and this host has not kept both; new sandboxes run under runsc %s (program %s). "+
			"Delete the snapshots that were saved under it",
		saved[vmm.FingerprintVersion], saved[vmm.FingerprintBinary], d.current.Version, d.current.Digest)
}

// Builds implements vmm.Driver.
func (d *Driver) Builds() ([]vmm.Build, error) {
	found, err := d.builds.Builds()
	if err != nil {
		return nil, err
	}
	builds := make([]vmm.Build, len(found))
	for i, b := range found {
		builds[i] = vmm.Build{ID: b.ID, Version: b.Version, Bytes: b.Bytes(), Dir: b.Dir, Current: b.ID == d.current.ID}
	}
	return builds, nil
}

// RemoveBuild implements vmm.Driver.
func (d *Driver) RemoveBuild(ctx context.Context, id string) error {
	if id == d.current.ID {
		return fault.New(fault.Internal, "internal", "the current build cannot be removed")
	}
	return d.builds.Remove(ctx, id)
}
