package qemu

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

// Fingerprint names the facts that saved device state and memory depend on: the
// build, because microvm promises no migration across builds; the processor that
// the guest sees; and the rate of its clock.
func (d *Driver) Fingerprint(cfg vmm.Config) map[string]string {
	b := d.current.Build
	if cfg.Build != "" && cfg.Build != b.ID {
		// A build that has gone leaves the entries of the current one, and the
		// comparison then names the difference.
		if kept, err := d.kept(cfg.Build); err == nil {
			b = kept.Build
		}
	}
	fp := map[string]string{
		"driver":           Name,
		"acceleration":     string(d.info.Acceleration),
		"cpu":              d.cpuModel(),
		"vcpus":            fmt.Sprint(cfg.VCPUs),
		"memory_mb":        fmt.Sprint(cfg.MemoryMB),
		"devices":          devicesDigest,
		"cmdline":          d.profile(),
		vmm.FingerprintTSC: fmt.Sprint(d.tscKHz),
	}
	maps.Copy(fp, buildFingerprint(b))
	if d.info.Acceleration == vmm.KVM {
		fp["host_cpu"], fp[vmm.FingerprintFeatures] = d.cpu.model, d.cpu.features
		if d.cpu.tscScaling {
			fp[vmm.FingerprintScaling] = "yes"
		}
	}
	return fp
}

// devicesDigest changes when the devices that the guest sees change. It leaves
// out the host's end of a device, and the reaction of that to errors.
var devicesDigest = func() string {
	d := &Driver{info: vmm.Info{Acceleration: vmm.KVM}}
	h := sha256.New()
	for _, a := range guestVisible(d.argv(version{8, 2, 0}, vmm.Config{}, true)) {
		_, _ = io.WriteString(h, a+"\x00")
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}()

// hostOnly are properties of devices and of the machine that the guest cannot
// see.
var hostOnly = []string{"drive", "netdev", "mac", "werror", "rerror", "memory-backend", "dump-guest-core"}

// guestVisible returns those of the arguments that describe the virtual
// machine, without their host-only properties.
func guestVisible(argv []string) (out []string) {
	for i := 0; i+1 < len(argv); i++ {
		switch argv[i] {
		case "-M", "-device", "-global":
			props := slices.DeleteFunc(strings.Split(argv[i+1], ","), func(p string) bool {
				name, _, _ := strings.Cut(p, "=")
				return slices.Contains(hostOnly, name)
			})
			out = append(out, argv[i]+" "+strings.Join(props, ","))
		}
	}
	return out
}
