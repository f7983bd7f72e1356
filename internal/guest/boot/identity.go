package boot

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Identity writes the guest's names into the root file system and the kernel.
// Concurrent calls of its methods are not allowed.
//
// Its files in /etc are links to a file system in memory, made when a guest is
// configured for the first time, so that a change writes nothing to the disk.
// Programs may replace the links with files of their own; Identity replaces those
// in turn.
//
// A memory snapshot contains the linked files. A guest that is booted from the
// disk alone has lost them: its hosts file then starts with localhost again.
type Identity struct {
	seed                             string // path of systemd's random seed
	hostname, hosts, resolv, machine ownFile
	// others holds the lines of hosts that are not ours, as written last.
	others string
	// machineID is the machine id that this process has set last, or "".
	machineID string
}

// NewIdentity returns an Identity for the system rooted at root ("/").
func NewIdentity(root string) *Identity {
	return &Identity{
		seed:     filepath.Join(root, "var/lib/systemd/random-seed"),
		hostname: newOwnFile(root, "hostname", 0o644),
		hosts:    newOwnFile(root, "hosts", 0o644),
		resolv:   newOwnFile(root, "resolv.conf", 0o644),
		machine:  newOwnFile(root, "machine-id", 0o444),
	}
}

// SetHostname implements agent.Identity.
func (i *Identity) SetHostname(name string) error {
	if err := unix.Sethostname([]byte(name)); err != nil {
		return err
	}
	return i.writeHostname(name)
}

func (i *Identity) writeHostname(name string) error {
	if err := i.hostname.put(name + "\n"); err != nil {
		return err
	}
	if !i.hosts.untouched() {
		have, err := i.hosts.read()
		if err != nil {
			return err
		}
		i.others = otherHosts(have)
	}
	return i.hosts.put(i.others + "127.0.1.1\t" + name + " " + ownLine + "\n")
}

// ownLine marks the lines in /etc/hosts that are ours to replace.
const ownLine = "# wrenn"

// otherHosts returns the content of a hosts file without our lines and with a line
// for localhost.
func otherHosts(have string) string {
	var out strings.Builder
	localhost := false
	for line := range strings.Lines(have) {
		if strings.HasSuffix(strings.TrimSpace(line), ownLine) {
			continue
		}
		out.WriteString(strings.TrimRight(line, "\n") + "\n")
		entry, _, _ := strings.Cut(line, "#")
		for _, host := range strings.Fields(entry) {
			localhost = localhost || host == "localhost"
		}
	}
	if !localhost {
		out.WriteString("127.0.0.1\tlocalhost " + ownLine + "\n")
		out.WriteString("::1\tlocalhost ip6-localhost ip6-loopback " + ownLine + "\n")
	}
	return out.String()
}

// SetNameservers implements agent.Identity.
func (i *Identity) SetNameservers(addresses []string) error {
	content := ""
	for _, a := range addresses {
		content += "nameserver " + a + "\n"
	}
	return i.resolv.put(content)
}

// RenewIdentity implements agent.Identity. The kernel's boot id cannot be changed: a
// file is mounted over it.
func (i *Identity) RenewIdentity() error {
	var random [32]byte
	if n, err := unix.Getrandom(random[:], 0); err != nil || n != len(random) {
		return errors.Join(errors.New("draw a machine id"), err)
	}
	i.machineID = ""
	id := hex.EncodeToString(random[:16])
	if err := i.machine.put(id + "\n"); err != nil {
		return err
	}
	i.machineID = id
	if err := unix.Unlink(i.seed); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR) {
		return &os.PathError{Op: "remove", Path: i.seed, Err: err}
	}
	return coverBootID(uuid([16]byte(random[16:])))
}

// MachineID implements agent.Identity.
func (i *Identity) MachineID() string { return i.machineID }

// uuid formats b as a random UUID (RFC 9562, version 4).
func uuid(b [16]byte) string {
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	s := hex.EncodeToString(b[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

const (
	bootIDPath  = "/proc/sys/kernel/random/boot_id"
	bootIDCover = "/run/wrenn/boot_id"
)

// coverBootID makes id the content of bootIDPath.
func coverBootID(id string) error {
	if err := rewrite(bootIDCover, id+"\n", 0o444); err != nil {
		return err
	}
	// After the first call it is mounted already.
	var under, over unix.Stat_t
	if unix.Stat(bootIDPath, &under) == nil && unix.Stat(bootIDCover, &over) == nil && under.Dev == over.Dev && under.Ino == over.Ino {
		return nil
	}
	err := unix.Mount(bootIDCover, bootIDPath, "", unix.MS_BIND, "")
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil // root has mounted something over /proc, which has no boot id
	}
	if err != nil {
		return fmt.Errorf("mount over boot id: %w", err)
	}
	return nil
}
