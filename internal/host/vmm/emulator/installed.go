package emulator

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Names of files below a build's directory.
const (
	binDir     = "bin"
	libDir     = "lib"
	dataDir    = "share"
	moduleDir  = "modules"
	loaderFile = libDir + "/qemu-loader" // the process's name in ps(1) is this one
)

// firmware are the ROM images that a microvm loads, or did in some version
// since 7.2. A build has those that its packages install.
var firmware = []string{
	"bios-microvm.bin", "qboot.rom", "pvh.bin", "linuxboot.bin", "linuxboot_dma.bin", "multiboot.bin", "kvmvapic.bin",
}

// modulePatterns are the loadable modules that a microvm needs in builds that
// do not have that code in the binary.
var modulePatterns = []string{"accel-tcg-x86_64.so", "accel-tcg-x86_64-*.so"}

// part is an installed file and where it goes in a build.
type part struct {
	to     string
	source Source
}

// installed lists the files of the emulator at path.
func installed(ctx context.Context, path string) ([]part, error) {
	binary, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, err
	}
	list := &lister{have: make(map[string]bool)}
	list.add(filepath.Join(binDir, filepath.Base(binary)), binary)
	loader, err := interpreter(binary)
	if err != nil {
		return nil, err
	}
	modules := findModules(binary)
	for _, m := range modules {
		list.add(filepath.Join(moduleDir, filepath.Base(m)), m)
	}
	if loader != "" {
		list.add(loaderFile, loader)
		for _, object := range append([]string{binary}, modules...) {
			if err := list.libraries(ctx, loader, object); err != nil {
				return nil, err
			}
		}
	}
	if err := list.firmware(ctx, binary); err != nil {
		return nil, err
	}
	return list.parts, list.err
}

// lister collects parts. The first error stays in err.
type lister struct {
	have  map[string]bool // by part.to
	parts []part
	err   error
}

func (l *lister) add(to, path string) {
	if l.have[to] || l.err != nil {
		return
	}
	l.have[to] = true
	source, err := sourceOf(path)
	l.err = err
	l.parts = append(l.parts, part{to, source})
}

// libraries adds the shared libraries of object, as loader finds them.
func (l *lister) libraries(ctx context.Context, loader, object string) error {
	out, err := exec.CommandContext(ctx, loader, "--list", object).Output()
	if err != nil {
		return fmt.Errorf("list the libraries of %s: %w", object, err)
	}
	found, err := parseList(out)
	if err != nil {
		return fmt.Errorf("list the libraries of %s: %w", object, err)
	}
	for name, path := range found {
		l.add(filepath.Join(libDir, name), path)
	}
	return nil
}

// parseList reads the output of the dynamic loader with --list (ld.so(8)): lines
// of the form "name => path (address)". The kernel's vDSO and the loader
// itself have no arrow, or an absolute name before it.
func parseList(out []byte) (map[string]string, error) {
	found := make(map[string]string)
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		name, rest, arrow := strings.Cut(strings.TrimSpace(lines.Text()), " => ")
		if !arrow || strings.HasPrefix(name, "/") {
			continue
		}
		path, _, ok := strings.Cut(rest, " (0x")
		if !ok || !filepath.IsAbs(path) {
			return nil, fmt.Errorf("the library %s is missing (%s)", name, rest)
		}
		found[name] = path
	}
	return found, nil
}

// firmware adds the ROM images from the directories that the emulator looks in.
func (l *lister) firmware(ctx context.Context, binary string) error {
	out, err := exec.CommandContext(ctx, binary, "-L", "help").Output()
	if err != nil {
		return fmt.Errorf("ask %s for its data directories: %w", binary, err)
	}
	bios := false
	for _, name := range firmware {
		for dir := range strings.FieldsSeq(string(out)) {
			path := filepath.Join(dir, name)
			if _, err := os.Stat(path); err == nil {
				l.add(filepath.Join(dataDir, name), path)
				bios = bios || name == "bios-microvm.bin" || name == "qboot.rom"
				break
			}
		}
	}
	if !bios {
		return fault.New(fault.Unsupported, "vmm_firmware_missing",
			"QEMU (%s) has no firmware for microvm machines; install qemu-system-data and seabios", binary)
	}
	return nil
}

// findModules returns the loadable modules of the binary that VMs need.
func findModules(binary string) (found []string) {
	prefix := filepath.Dir(filepath.Dir(binary))
	for _, dir := range []string{"lib/x86_64-linux-gnu/qemu", "lib64/qemu", "lib/qemu"} {
		for _, pattern := range modulePatterns {
			names, _ := filepath.Glob(filepath.Join(prefix, dir, pattern)) // fails for bad patterns alone
			found = append(found, names...)
		}
	}
	return found
}

// interpreter returns the dynamic loader that the ELF file at path asks for,
// or nothing for a static one.
func interpreter(path string) (string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return "", fault.Wrap(err, fault.Unsupported, "vmm_unusable", "%s is not an executable that can be kept for later", path)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			data, err := io.ReadAll(io.LimitReader(p.Open(), unix.PathMax))
			return string(bytes.TrimRight(data, "\x00")), err
		}
	}
	return "", nil
}

// sourceOf identifies the file at path, through symbolic links.
func sourceOf(path string) (Source, error) {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return Source{}, err
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return Source{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return Source{}, errors.New(path + " is not a regular file")
	}
	return Source{
		Path: path, Inode: st.Ino, Bytes: st.Size, ModifiedNano: st.Mtim.Nano(), ChangedNano: st.Ctim.Nano(),
	}, nil
}
