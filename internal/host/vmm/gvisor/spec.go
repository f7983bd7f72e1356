package gvisor

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

// The part of the OCI runtime specification that the driver writes.
type (
	spec struct {
		Version     string            `json:"ociVersion"`
		Hostname    string            `json:"hostname"`
		Process     specProcess       `json:"process"`
		Root        specRoot          `json:"root"`
		Mounts      []specMount       `json:"mounts"`
		Annotations map[string]string `json:"annotations"`
		Linux       specLinux         `json:"linux"`
	}
	specProcess struct {
		User         specUser            `json:"user"`
		Args         []string            `json:"args"`
		Env          []string            `json:"env"`
		Cwd          string              `json:"cwd"`
		Capabilities map[string][]string `json:"capabilities"`
	}
	specUser struct {
		UID int `json:"uid"`
		GID int `json:"gid"`
	}
	specRoot struct {
		Path string `json:"path"`
	}
	specMount struct {
		Destination string   `json:"destination"`
		Type        string   `json:"type"`
		Source      string   `json:"source"`
		Options     []string `json:"options,omitempty"`
	}
	specLinux struct {
		UIDMappings []specMapping   `json:"uidMappings,omitempty"`
		GIDMappings []specMapping   `json:"gidMappings,omitempty"`
		Namespaces  []specNamespace `json:"namespaces"`
		CgroupsPath string          `json:"cgroupsPath"`
	}
	specMapping struct {
		ContainerID int `json:"containerID"`
		HostID      int `json:"hostID"`
		Size        int `json:"size"`
	}
	specNamespace struct {
		Type string `json:"type"`
		Path string `json:"path,omitempty"`
	}
)

// ociVersion is the version of the specification that the driver writes.
const ociVersion = "1.2.1"

// Where the guest sees its agent, and the argument that selects gVisor.
const (
	agentMount = "/.wrenn"
	agentPath  = agentMount + "/wrenn-guest"
	agentArg   = "gvisor"
)

// mappedIDs is the number of the host's user ids in the user namespace of the sentry:
// its own. The ids of the guest's users are the sentry's alone.
const mappedIDs = 1

// describe returns the specification of cfg with the agent image at path agent.
//
// A sandbox can only be restored with the process, mounts, user ids and
// annotations that it was saved with. These are therefore the same for equal
// sizes, root images and agents.
func describe(cfg vmm.Config, agent string) spec {
	annotations := map[string]string{
		"dev.gvisor.spec.rootfs.source":  cfg.RootImage,
		"dev.gvisor.spec.rootfs.type":    "erofs",
		"dev.gvisor.spec.rootfs.overlay": "memory",
		"dev.gvisor.spec.rootfs.options": fmt.Sprintf("size=%dM", cfg.DiskMB),
	}
	if cfg.DiskContent != "" {
		annotations["dev.gvisor.tar.rootfs.upper"] = cfg.DiskContent
	}
	return spec{
		Version:  ociVersion,
		Hostname: cfg.Hostname,
		Process: specProcess{
			Args: []string{agentPath, agentArg},
			Env: []string{
				"PATH=/usr/sbin:/usr/bin:/sbin:/bin",
				"WRENN_MEMORY_MB=" + strconv.Itoa(cfg.MemoryMB),
				"WRENN_TASKS=" + strconv.Itoa(vmm.GuestTasks(cfg.MemoryMB)),
				"WRENN_VCPUS=" + strconv.Itoa(cfg.VCPUs),
			},
			Cwd:          "/",
			Capabilities: allCapabilities(),
		},
		Root: specRoot{Path: emptyRoot(cfg.Dir)},
		Mounts: []specMount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			// Init replaces it, because runsc ignores a size.
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"mode=755"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"ro", "nosuid", "noexec", "nodev"}},
			{Destination: agentMount, Type: "erofs", Source: agent, Options: []string{"ro", "nosuid", "nodev"}},
		},
		Annotations: annotations,
		Linux: specLinux{
			UIDMappings: mapping(cfg.UID),
			GIDMappings: mapping(cfg.GID),
			CgroupsPath: sizesGroup,
			Namespaces: []specNamespace{
				{Type: "pid"}, {Type: "ipc"}, {Type: "uts"}, {Type: "mount"}, {Type: "user"},
				{Type: "network", Path: cfg.Network.Namespace},
			},
		},
	}
}

func mapping(first int) []specMapping { return []specMapping{{HostID: first, Size: mappedIDs}} }

// emptyRoot is the directory that the specification names as the root. The guest's
// root is the image, and nothing is read from here.
func emptyRoot(dir string) string { return filepath.Join(dir, "empty") }

// write writes the specification to the directory of the sandbox.
func (s spec) write(dir string) error {
	if err := os.MkdirAll(s.Root.Path, 0o755); err != nil {
		return err
	}
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "config.json"), data, 0o600)
}

// allCapabilities gives the guest's first process every capability that Linux has
// (capabilities(7)). They hold inside of the sentry only.
func allCapabilities() map[string][]string {
	names := []string{
		"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
		"LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
		"SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
		"SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
		"MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ",
	}
	for i, name := range names {
		names[i] = "CAP_" + name
	}
	return map[string][]string{"bounding": names, "effective": names, "permitted": names, "inheritable": names}
}
