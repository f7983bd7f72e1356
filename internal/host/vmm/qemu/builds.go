package qemu

import (
	"context"
	"fmt"
	"os/exec"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/emulator"
)

// build is a kept build and its version, on which its arguments depend.
type build struct {
	emulator.Build
	version version
}

// keepInstalled makes the installed QEMU the current build.
func (d *Driver) keepInstalled(ctx context.Context, o Options) error {
	if o.Binary == "" {
		o.Binary = DefaultBinary
	}
	binary, err := exec.LookPath(o.Binary)
	if err != nil {
		return fault.Wrap(err, fault.Unsupported, "vmm_missing", "QEMU (%s) is not installed; install qemu-system-x86", o.Binary)
	}
	if d.current.version, err = queryVersion(ctx, binary); err != nil {
		return err
	}
	if v := d.current.version; !v.atLeast(7, 2) {
		return fault.New(fault.Unsupported, "vmm_version", "QEMU %s is too old: 8.2 or later is needed (7.2 for a single tenant)", v)
	}
	if d.store, err = emulator.Open(o.Builds); err != nil {
		return err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(o.Builds, &fs); err == nil && fs.Flags&unix.ST_NOEXEC != 0 {
		return fault.New(fault.Unsupported, "vmm_not_executable",
			"VMs run a copy of QEMU in %s, but that file system is mounted noexec; remount it without", o.Builds)
	}
	if d.current.Build, err = d.store.Keep(ctx, binary, d.current.version.String()); err != nil {
		return fmt.Errorf("keep a copy of %s: %w", binary, err)
	}
	return nil
}

// build returns the kept build id, whole, or the current one for no id.
func (d *Driver) build(ctx context.Context, id string) (build, error) {
	if id == "" || id == d.current.ID {
		return d.current, d.store.Verify(ctx, d.current.Build)
	}
	b, err := d.kept(id)
	if err != nil {
		return b, err
	}
	return b, d.store.Verify(ctx, b.Build)
}

// kept returns the kept build id without looking at its files.
func (d *Driver) kept(id string) (build, error) {
	builds, err := d.store.Builds()
	if err != nil {
		return build{}, err
	}
	for _, b := range builds {
		if b.ID == id {
			v, err := readVersion(b.Version)
			return build{b, v}, err
		}
	}
	return build{}, fault.New(fault.WrongState, reasonBuildMissing, "the QEMU build %s is not kept on this host any more", id)
}

const reasonBuildMissing = "vmm_build_missing"

// BuildOf prefers the current build, which has the newest libraries, and then
// the newest one.
func (d *Driver) BuildOf(saved map[string]string) (string, error) {
	if vmm.SameBuild(saved, buildFingerprint(d.current.Build)) {
		return d.current.ID, nil
	}
	builds, err := d.store.Builds()
	if err != nil {
		return "", err
	}
	for _, b := range builds {
		if vmm.SameBuild(saved, buildFingerprint(b)) {
			return b.ID, nil
		}
	}
	return "", fault.New(fault.WrongState, reasonBuildMissing,
		"it was saved under QEMU %s (binary %s), which this host has not kept; new VMs run under QEMU %s (binary %s). "+
			"Install that build again and restart the host agent, or delete what was saved under it",
		saved[vmm.FingerprintVersion], saved[vmm.FingerprintBinary], d.current.version, d.current.Digest)
}

// buildFingerprint returns the entries of a fingerprint that identify the build.
func buildFingerprint(b emulator.Build) map[string]string {
	return map[string]string{
		vmm.FingerprintVersion: b.Version, vmm.FingerprintBinary: b.Digest, vmm.FingerprintFirmware: b.Firmware,
	}
}

// Builds returns the kept builds.
func (d *Driver) Builds() ([]vmm.Build, error) {
	builds, err := d.store.Builds()
	if err != nil {
		return nil, err
	}
	out := make([]vmm.Build, len(builds))
	for i, b := range builds {
		v, err := readVersion(b.Version)
		if err != nil {
			return nil, err
		}
		out[i] = vmm.Build{
			ID: b.ID, Version: b.Version, Bytes: b.Bytes(), Dir: b.Dir,
			Current: b.ID == d.current.ID, WritesMemory: !v.memoryReadOnly(),
		}
	}
	return out, nil
}

// RemoveBuild removes a kept build.
func (d *Driver) RemoveBuild(ctx context.Context, id string) error {
	if id == d.current.ID {
		return fault.New(fault.Internal, "internal", "the current build cannot be removed")
	}
	return d.store.Remove(ctx, id)
}

func readVersion(text string) (v version, err error) {
	if _, err = fmt.Sscanf(text, "%d.%d.%d", &v.major, &v.minor, &v.micro); err != nil {
		err = fmt.Errorf("a kept build has the version %q: %w", text, err)
	}
	return v, err
}
