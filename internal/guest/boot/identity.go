package boot

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Identity writes who the machine is into the root file system and the kernel.
//
// The files in /etc that say so are links to a file system in memory, made when
// a machine is configured for the first time. To change them costs no write to
// the disk, and programs may replace them like any other: what a program has
// put in the place of a link is replaced in turn.
//
// What is in memory goes with a snapshot of it, and is lost with a disk used
// alone: hosts then begins with localhost again.
type Identity struct{ root string }

// NewIdentity returns an Identity for the system rooted at root ("/").
func NewIdentity(root string) *Identity { return &Identity{root: root} }

// ownDir is where the files that links in /etc name lie, below the root.
const ownDir = "run/wrenn/etc"

// maxIdentityFile bounds what is read of a file that programs may have written.
const maxIdentityFile = 1 << 20

func (i *Identity) etc(name string) string { return filepath.Join(i.root, "etc", name) }
func (i *Identity) own(name string) string { return filepath.Join(i.root, ownDir, name) }

// put makes content what /etc/name holds.
func (i *Identity) put(name, content string, mode uint32) error {
	if err := rewrite(i.own(name), content, mode); err != nil {
		return err
	}
	link := "../" + ownDir + "/" + name
	if target, err := os.Readlink(i.etc(name)); err == nil && target == link {
		return nil
	}
	return replaceByLink(i.etc(name), link)
}

// replaceByLink makes path a link to target. Programs see what was there, or
// the link.
func replaceByLink(path, target string) error {
	made := path + ".wrenn-link"
	if err := os.Remove(made); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, made); err != nil {
		return err
	}
	return os.Rename(made, path)
}

// rewrite makes content that of the file at path, in place: it may be mounted
// elsewhere too. Where that is no file any more, it becomes one.
func rewrite(path, content string, mode uint32) error {
	err := overwrite(path, content, mode)
	if err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	return overwrite(path, content, mode)
}

// overwrite writes before it cuts, so that no reader finds an empty file. It
// waits for no pipe and follows no link.
func overwrite(path, content string, mode uint32) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, mode)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	if _, err := unix.Pwrite(fd, []byte(content), 0); err != nil {
		return &os.PathError{Op: "write", Path: path, Err: err}
	}
	return unix.Ftruncate(fd, int64(len(content)))
}

// read returns what /etc/name holds, or nothing.
func (i *Identity) read(name string) (string, error) {
	fd, err := unix.Open(i.etc(name), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ELOOP) {
		return "", nil
	}
	if err != nil {
		return "", &os.PathError{Op: "open", Path: i.etc(name), Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxIdentityFile))
	return string(b), err
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
	if err := i.put("hostname", name+"\n", 0o644); err != nil {
		return err
	}
	have, err := i.read("hosts")
	if err != nil {
		return err
	}
	return i.put("hosts", hostsWith(have, name), 0o644)
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
	return i.put("resolv.conf", out.String(), 0o644)
}

// Renew implements rpc.Identity. The kernel's boot id cannot be changed: a
// file is mounted over it.
func (i *Identity) Renew() error {
	var machine, boot [16]byte
	_, _ = rand.Read(machine[:]) // never fails, see crypto/rand
	_, _ = rand.Read(boot[:])
	if err := i.put("machine-id", hex.EncodeToString(machine[:])+"\n", 0o444); err != nil {
		return err
	}
	seed := filepath.Join(i.root, "var/lib/systemd/random-seed")
	if err := unix.Unlink(seed); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR) {
		return &os.PathError{Op: "remove", Path: seed, Err: err}
	}
	return coverBootID(uuid(boot))
}

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
	// It is mounted already but for the first time.
	if now, err := os.ReadFile(bootIDPath); err == nil && strings.TrimSpace(string(now)) == id {
		return nil
	}
	if err := unix.Mount(bootIDCover, bootIDPath, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount over boot id: %w", err)
	}
	return nil
}
