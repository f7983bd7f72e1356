package qemu

import (
	"bufio"
	"io"
	"os"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/host/vmm/tsc"
)

// hostCPU describes the host's processor as a guest under KVM sees it.
type hostCPU struct {
	// model is vendor, family, model and stepping. The revision of the
	// microcode is left out: an update changes it, and features holds every
	// other change that a guest sees.
	model string
	// features are the feature bits, see tsc.Features.
	features string
	// tscScaling: a guest's counter can run at another rate than the host's.
	tscScaling bool
}

func readHostCPU() hostCPU {
	cpu := hostCPU{model: "unknown", features: tsc.Features(), tscScaling: tsc.Scaling()}
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return cpu
	}
	defer f.Close()
	cpu.model = cpuModelOf(f)
	return cpu
}

// cpuModelOf reads the description of the first processor.
func cpuModelOf(cpuinfo io.Reader) string {
	var parts []string
	lines := bufio.NewScanner(cpuinfo)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ":")
		switch strings.TrimSpace(key) {
		case "":
			return strings.Join(parts, "/")
		case "vendor_id", "cpu family", "model", "stepping":
			parts = append(parts, strings.TrimSpace(value))
		}
	}
	return strings.Join(parts, "/")
}
