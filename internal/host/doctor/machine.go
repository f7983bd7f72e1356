package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/host/cgroup"
	"github.com/wrenn-dev/wrenn/internal/host/network"
	"github.com/wrenn-dev/wrenn/internal/linux/proc"
)

func checkOS() Check {
	c := Check{Name: "system", Status: OK, Found: osName(osRelease)}
	var u unix.Utsname
	if err := unix.Uname(&u); err == nil {
		c.Found += fmt.Sprintf(", Linux %s, %s", unix.ByteSliceToString(u.Release[:]), runtime.GOARCH)
	}
	if runtime.GOARCH != "amd64" {
		c.Status, c.Detail = Fail, "sandboxes run on x86-64 machines only"
	}
	return c
}

const osRelease = "/etc/os-release"

func osName(path string) string {
	if name := osField(path, "PRETTY_NAME"); name != "" {
		return name
	}
	return "unknown system"
}

// osField reads one value of a file in the format of os-release(5).
func osField(path, name string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+"="); ok {
			return strings.Trim(value, `"'`)
		}
	}
	return ""
}

// checkRights looks at the effective capabilities, not at the user: root in a
// container may have few.
func checkRights(cfg Config) Check {
	c := Check{Name: "rights", Status: OK, Found: fmt.Sprintf("user id %d", os.Geteuid())}
	needed := []struct {
		name   string
		number uint
	}{
		{"CAP_NET_ADMIN", unix.CAP_NET_ADMIN}, {"CAP_SYS_ADMIN", unix.CAP_SYS_ADMIN},
		{"CAP_SETUID", unix.CAP_SETUID}, {"CAP_CHOWN", unix.CAP_CHOWN}, {"CAP_KILL", unix.CAP_KILL},
		{"CAP_SYS_PTRACE", unix.CAP_SYS_PTRACE},
	}
	have := effectiveCaps("/proc/self/status")
	var missing []string
	for _, n := range needed {
		if have&(1<<n.number) == 0 {
			missing = append(missing, n.name)
		}
	}
	if len(missing) == 0 {
		c.Found += ", all capabilities needed"
		return c
	}
	c.Status = Fail
	c.Found += ", without " + strings.Join(missing, ", ")
	c.Detail = "the host agent makes namespaces, devices and firewall rules"
	if os.Geteuid() != 0 {
		c.Fix = "sudo " + cfg.command("doctor")
	}
	return c
}

// effectiveCaps reads CapEff of a file in the format of proc(5) status.
func effectiveCaps(path string) uint64 {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "CapEff:"); ok {
			bits, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
			if err != nil {
				return 0
			}
			return bits
		}
	}
	return 0
}

func checkCPUs() Check {
	c := Check{Name: "processors", Status: OK, Found: strconv.Itoa(runtime.NumCPU())}
	if runtime.NumCPU() < 2 {
		c.Status, c.Detail = Warn, "sandboxes start and run slowly on a single processor"
	}
	return c
}

// lowMemoryMB is less than the control plane, PostgreSQL and two sandboxes of
// default size need together.
const lowMemoryMB = 2048

func checkMemory() Check {
	c := Check{Name: "memory", Status: OK}
	memory, err := proc.ReadMemInfo()
	if err != nil {
		c.Status, c.Found, c.Detail = Warn, "unknown", err.Error()
		return c
	}
	total, available := memory["MemTotal"]>>20, memory["MemAvailable"]>>20
	c.Found = fmt.Sprintf("%d MB available of %d MB", available, total)
	if available < lowMemoryMB {
		c.Status = Warn
		c.Detail = fmt.Sprintf("below %d MB there is room for very few sandboxes", lowMemoryMB)
	}
	return c
}

func checkTun() Check {
	c := Check{Name: "tap devices", Status: OK, Found: "/dev/net/tun opens"}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		_ = unix.Close(fd)
		return c
	}
	c.Status, c.Found = Fail, "/dev/net/tun does not open: "+err.Error()
	c.Detail = "the network card of a sandbox is a tap device"
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		c.Fix = "modprobe tun"
	}
	return c
}

func checkNetwork() Check {
	c := Check{Name: "network", Status: OK, Found: "namespaces, veth pairs and nftables work"}
	if err := network.Try(); err != nil {
		c.Status, c.Found = Fail, "a sandbox's network cannot be made: "+err.Error()
		c.Detail = "each sandbox has a network namespace and nftables rules of its own"
		c.Fix = "modprobe -a tun veth nf_tables nft_ct nft_nat nft_masq nft_limit nft_connlimit"
	}
	return c
}

// checkForwarding looks for rules of others that would keep sandboxes from the
// outside: an accept in our table does not overrule a drop in theirs.
func checkForwarding(name string) Check {
	c := Check{Name: "forwarding", Status: OK, Found: "nothing drops what sandboxes send"}
	tables, err := network.ForwardDroppers()
	switch {
	case err != nil:
		c.Status, c.Found = Warn, "the firewall's rules cannot be read"
	case len(tables) > 0:
		c.Status = Warn
		c.Found = "forwarded packets are dropped by the policy of table " + strings.Join(tables, ", ")
		c.Detail = "sandboxes have no way out unless that table (Docker makes such a one) accepts their devices"
		c.Fix = acceptForwarding(tables, name)
	case legacyFilter("/proc/net/ip_tables_names"):
		c.Status = Warn
		c.Found = "rules of the old iptables are in use"
		c.Detail = "they cannot be seen from here; if sandboxes have no way out, look at the policy of FORWARD"
		c.Fix = fmt.Sprintf("iptables-legacy -I FORWARD -i %[1]s-+ -j ACCEPT; iptables-legacy -I FORWARD -o %[1]s-+ -j ACCEPT", name)
	}
	return c
}

// acceptForwarding returns the command that has the filter table of iptables
// accept the devices of sandboxes. The settings of other firewalls are not checked.
func acceptForwarding(tables []string, name string) string {
	if !slices.Equal(tables, []string{"filter"}) {
		return ""
	}
	command := fmt.Sprintf("iptables -I FORWARD -i %[1]s-+ -j ACCEPT && iptables -I FORWARD -o %[1]s-+ -j ACCEPT", name)
	if find("iptables") == "" {
		command = install("iptables") + " && " + command
	}
	return command
}

// legacyFilter reports whether the kernel's list of iptables tables has the
// one with the FORWARD chain.
func legacyFilter(path string) bool {
	text, err := os.ReadFile(path)
	return err == nil && slices.Contains(strings.Fields(string(text)), "filter")
}

func checkCgroups() Check {
	kind := cgroup.Detect()
	c := Check{Name: "control groups", Status: OK, Found: string(kind)}
	switch kind {
	case cgroup.None:
		c.Status = Warn
		c.Detail = "VM processes run without limits on memory and CPU; a container needs its control groups mounted writable"
	case cgroup.V1:
		c.Detail = "without the v2 hierarchy VM processes are killed one by one"
	}
	return c
}
