package qemu

import (
	"bufio"
	"os"
	"strings"
)

// hostCPU returns what of /proc/cpuinfo a KVM snapshot depends on: vendor,
// family, model, stepping and microcode of the first CPU.
func hostCPU() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	var parts []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ":")
		switch strings.TrimSpace(key) {
		case "":
			return strings.Join(parts, "/")
		case "vendor_id", "cpu family", "model", "stepping", "microcode":
			parts = append(parts, strings.TrimSpace(value))
		}
	}
	return strings.Join(parts, "/")
}
