package boot

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// WriteFile replaces a small system file, whole or not at all.
type WriteFile func(path, content string, mode os.FileMode) error

// Identity writes who the machine is into the root file system and the kernel.
// Files of the image are changed in the overlay, where programs may change
// them too; a bind mount over them would not let programs replace them.
type Identity struct {
	root  string
	write WriteFile
}

// NewIdentity returns an Identity for the system rooted at root ("/") that
// writes files with write.
func NewIdentity(root string, write WriteFile) *Identity {
	return &Identity{root: root, write: write}
}

// ownLine marks the lines in /etc/hosts that are ours to replace.
const ownLine = "# wrenn"

// SetHostname implements rpc.Identity.
func (i *Identity) SetHostname(name string) error {
	if err := unix.Sethostname([]byte(name)); err != nil {
		return err
	}
	return i.writeHostname(name)
}

func (i *Identity) writeHostname(name string) error {
	if err := i.write(i.etc("hostname"), name+"\n", 0o644); err != nil {
		return err
	}
	have, err := os.ReadFile(i.etc("hosts"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return i.write(i.etc("hosts"), hostsWith(string(have), name), 0o644)
}

// hostsWith returns the hosts file have with name in it, and localhost.
func hostsWith(have, name string) string {
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
	}
	out.WriteString("127.0.1.1\t" + name + " " + ownLine + "\n")
	return out.String()
}

// SetNameservers implements rpc.Identity.
func (i *Identity) SetNameservers(addresses []string) error {
	var out strings.Builder
	for _, a := range addresses {
		out.WriteString("nameserver " + a + "\n")
	}
	return i.write(i.etc("resolv.conf"), out.String(), 0o644)
}

// Renew implements rpc.Identity. The kernel's boot id cannot be changed: a
// file is mounted over it.
func (i *Identity) Renew() error {
	var machine, boot [16]byte
	_, _ = rand.Read(machine[:]) // never fails, see crypto/rand
	_, _ = rand.Read(boot[:])
	if err := i.write(i.etc("machine-id"), hex.EncodeToString(machine[:])+"\n", 0o444); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(i.root, "var/lib/systemd/random-seed")); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
		return err
	}
	return coverBootID(uuid(boot))
}

func (i *Identity) etc(name string) string { return filepath.Join(i.root, "etc", name) }

// uuid formats b as a random UUID (RFC 9562, version 4).
func uuid(b [16]byte) string {
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

const (
	bootIDPath  = "/proc/sys/kernel/random/boot_id"
	bootIDCover = "/run/wrenn/boot_id"
)

// coverBootID makes id the content of bootIDPath. The file that covers it is
// written in place: it may be mounted there already.
func coverBootID(id string) error {
	if err := os.MkdirAll(filepath.Dir(bootIDCover), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(bootIDCover, []byte(id+"\n"), 0o444); err != nil {
		return err
	}
	if now, err := os.ReadFile(bootIDPath); err == nil && strings.TrimSpace(string(now)) == id {
		return nil
	}
	if err := unix.Mount(bootIDCover, bootIDPath, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount over boot id: %w", err)
	}
	return nil
}
