package qemu

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

// Name is the driver's name in records and in the API.
const Name = "qemu"

// DefaultBinary is looked up in PATH.
const DefaultBinary = "qemu-system-x86_64"

// Options choose how the driver runs QEMU. All are fixed for its life.
type Options struct {
	// Binary is QEMU's name or path; empty is DefaultBinary.
	Binary string
	// Acceleration must have been probed; Reason says in a sentence why it was chosen.
	Acceleration vmm.Acceleration
	Reason       string
	// TSCKHz is the rate of the host's time stamp counter. Required for TCG,
	// where it is the rate of the guest's clock.
	TSCKHz uint64
	// MaxVCPUs is the most virtual CPUs that a VM may have.
	MaxVCPUs int
	// KVMGroup is the group of /dev/kvm, which VM processes join where QEMU
	// has to open that itself.
	KVMGroup int
	Log      *slog.Logger
}

// Driver runs VMs with QEMU. It is safe for use by several goroutines.
type Driver struct {
	binary   string
	digest   string // of the binary
	version  version
	tscKHz   uint64
	kvmGroup int
	info     vmm.Info
	log      *slog.Logger
}

var _ vmm.Driver = (*Driver)(nil)

// New finds QEMU and asks for its version. It fails with kind Unsupported
// where QEMU is missing or too old to run at all.
func New(ctx context.Context, o Options) (*Driver, error) {
	if o.Log == nil {
		return nil, fault.New(fault.Internal, "internal", "qemu.New needs a logger")
	}
	if o.Acceleration == vmm.TCG && o.TSCKHz == 0 {
		return nil, fault.New(fault.Invalid, "tsc_unknown", "software emulation needs the rate of the time stamp counter")
	}
	if o.Binary == "" {
		o.Binary = DefaultBinary
	}
	binary, err := exec.LookPath(o.Binary)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unsupported, "vmm_missing", "QEMU (%s) is not installed; install qemu-system-x86", o.Binary)
	}
	v, err := queryVersion(ctx, binary)
	if err != nil {
		return nil, err
	}
	if !v.atLeast(7, 2) {
		return nil, fault.New(fault.Unsupported, "vmm_version", "QEMU %s is too old: 8.2 or later is needed (7.2 for a single tenant)", v)
	}
	digest, err := fileDigest(binary)
	if err != nil {
		return nil, fmt.Errorf("hash %s: %w", binary, err)
	}
	d := &Driver{binary: binary, digest: digest, version: v, tscKHz: o.TSCKHz, kvmGroup: o.KVMGroup, log: o.Log}
	d.info = vmm.Info{
		Driver: Name, Version: v.String(), Acceleration: o.Acceleration, Reason: o.Reason,
		MultiTenant: v.atLeast(8, 2), MaxVCPUs: o.MaxVCPUs,
	}
	if o.Acceleration == vmm.TCG && !v.atLeast(8, 1) {
		d.info.MaxVCPUs = 1 // older ones race when guest code is patched on several CPUs
	}
	return d, nil
}

// Info describes the driver on this host.
func (d *Driver) Info() vmm.Info { return d.info }

// Fingerprint names everything on which saved device state and memory depend:
// microvm promises no migration across QEMU builds, and an emulated CPU's
// clock runs at the host's rate.
func (d *Driver) Fingerprint(cfg vmm.Config) map[string]string {
	fp := map[string]string{
		"driver":       Name,
		"vmm_version":  d.version.String(),
		"vmm_digest":   d.digest,
		"acceleration": string(d.info.Acceleration),
		"cpu":          d.cpuModel(),
		"vcpus":        fmt.Sprint(cfg.VCPUs),
		"memory_mb":    fmt.Sprint(cfg.MemoryMB),
		"machine":      machineDigest,
		"cmdline":      d.profile(),
	}
	if d.info.Acceleration == vmm.TCG {
		fp["tsc_khz"] = fmt.Sprint(d.tscKHz)
	} else {
		fp["host_cpu"] = hostCPU()
	}
	return fp
}

// machineDigest changes when the devices that argv describes change.
var machineDigest = func() string {
	d := &Driver{info: vmm.Info{Acceleration: vmm.KVM}, version: version{8, 2, 0}}
	h := sha256.New()
	for _, a := range d.argv(vmm.Config{}, true) {
		_, _ = io.WriteString(h, a+"\x00")
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}()

func fileDigest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}
