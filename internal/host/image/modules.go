package image

import (
	"bufio"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// GuestModules are the kernel modules that every guest loads when it boots, without their
// dependencies. Some may be built into the kernel; that is fine.
//
// None is loaded on demand: the template has no file of them, and a file that waited in
// the guest's memory would take as much of it as the loaded module. Root may install more.
func GuestModules() []string {
	return []string{
		"virtio_mmio", "virtio_blk", "virtio_net", "overlay", "erofs", "ext4", "tcp_diag",
		// For file systems in user space, VPN clients and containers.
		"fuse", "tun", "veth", "br_netfilter",
	}
}

// laterModules are loaded while the agent runs already, and the first commands wait for
// them: networks, packet filters and loop devices of container engines. Under software
// emulation they take as much time as a fifth of a boot.
var laterModules = []string{
	"loop", "wireguard", "macvlan", "dummy", "vxlan",
	// nftables, also behind the iptables of Debian.
	"nf_tables", "nft_compat", "nft_chain_nat", "nft_nat", "nft_masq", "nft_redir", "nft_ct", "nft_limit", "nft_fib_inet", "nft_reject_inet",
	"nf_conntrack_netlink",
	// The older iptables, which images with a packet filter of their own bring along.
	"iptable_filter", "iptable_nat", "iptable_mangle", "ip6table_filter", "ip6table_nat", "ipt_REJECT", "ip6t_REJECT",
	"xt_MASQUERADE", "xt_REDIRECT", "xt_TCPMSS", "xt_CHECKSUM", "xt_addrtype", "xt_comment", "xt_conntrack", "xt_connmark", "xt_limit",
	"xt_mark", "xt_multiport", "xt_nat", "xt_owner", "xt_physdev", "xt_state", "xt_statistic", "xt_tcpudp",
}

// moduleOptions are the parameters with which modules are loaded.
var moduleOptions = map[string]string{
	// Devices are made when they are asked for, and none before.
	"dummy": "numdummies=0",
	"loop":  "max_loop=0",
}

// maxModule bounds one unpacked kernel module, in bytes.
const maxModule = 64 << 20

// module is one loadable module of a kernel.
type module struct {
	name string // with underscores, as modprobe(8) compares names
	path string
}

// moduleSet holds modprobe's knowledge of one kernel.
type moduleSet struct {
	byName  map[string]module
	builtin map[string]bool
}

func moduleName(path string) string {
	name, _, _ := strings.Cut(filepath.Base(path), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// openModules reads the tree of modules in dir, which is lib/modules/RELEASE
// of a kernel package.
func openModules(dir string) (moduleSet, error) {
	set := moduleSet{byName: map[string]module{}, builtin: map[string]bool{}}
	list, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return set, err
	}
	for lines := bufio.NewScanner(bytes.NewReader(list)); lines.Scan(); {
		set.builtin[moduleName(lines.Text())] = true
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && filepath.Ext(path) == ".ko" {
			m := module{name: moduleName(path), path: path}
			set.byName[m.name] = m
		}
		return err
	})
	return set, err
}

// resolve returns the modules called names and all that they depend on, each
// once and after its dependencies. Modules built into the kernel are left out.
func (s moduleSet) resolve(names []string) ([]module, error) {
	var order []module
	seen := map[string]bool{}
	var visit func(name string) error
	visit = func(name string) error {
		name = strings.ReplaceAll(name, "-", "_")
		if seen[name] || s.builtin[name] {
			return nil
		}
		m, ok := s.byName[name]
		if !ok {
			return fmt.Errorf("the kernel has no module %s", name)
		}
		seen[name] = true
		hard, soft, err := dependencies(m.path)
		if err != nil {
			return fmt.Errorf("module %s: %w", name, err)
		}
		for _, dep := range soft {
			// A soft dependency may name an alias or be absent; modprobe
			// carries on without it as well.
			if _, ok := s.byName[strings.ReplaceAll(dep, "-", "_")]; ok {
				hard = append(hard, dep)
			}
		}
		for _, dep := range hard {
			if err := visit(dep); err != nil {
				return err
			}
		}
		order = append(order, m)
		return nil
	}
	for _, name := range names {
		if err := visit(name); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// dependencies reads "depends" and "softdep ... pre:" from the .modinfo
// section of a module (MODULE_INFO in the kernel's linux/module.h: strings
// "key=value", each ended by NUL).
func dependencies(path string) (hard, softPre []string, err error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	sec := f.Section(".modinfo")
	if sec == nil {
		return nil, nil, errors.New("no .modinfo section")
	}
	info, err := sec.Data()
	if err != nil {
		return nil, nil, err
	}
	for _, entry := range strings.Split(string(info), "\x00") {
		key, value, _ := strings.Cut(entry, "=")
		switch {
		case key == "depends" && value != "":
			hard = append(hard, strings.Split(value, ",")...)
		case key == "softdep":
			softPre = append(softPre, softDependencies(value)...)
		}
	}
	return hard, softPre, nil
}

// softDependencies returns the modules after "pre:" in a softdep line
// (modprobe.d(5): "pre: a b post: c").
func softDependencies(value string) []string {
	var pre []string
	inPre := false
	for _, word := range strings.Fields(value) {
		switch word {
		case "pre:":
			inPre = true
		case "post:":
			inPre = false
		default:
			if inPre {
				pre = append(pre, word)
			}
		}
	}
	return pre
}

// copyModules copies a kernel package's module tree from src to dst, every
// module unpacked, so that a guest can load it with finit_module(2) alone.
func copyModules(dst, src string) error {
	return filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, path)
		if err != nil {
			return err
		}
		target := filepath.Join(dst, rel)
		if d.IsDir() {
			return mkdir(target)
		}
		if !d.Type().IsRegular() {
			return nil // "build" and "source" links of a kernel package
		}
		data, err := readModule(path)
		if err != nil {
			return fmt.Errorf("%s: %w", rel, err)
		}
		target = strings.TrimSuffix(strings.TrimSuffix(target, ".xz"), ".zst")
		if err := os.WriteFile(target, data, 0o644); err != nil {
			return err
		}
		return os.Chmod(target, 0o644)
	})
}

// readModule returns the content of a file, unpacked if its name ends in .xz
// or .zst. The xz tool is part of every Debian; Go has no xz of its own.
func readModule(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	switch filepath.Ext(path) {
	case ".xz":
		cmd := exec.Command("xz", "-dc")
		cmd.Stdin = f
		return cmd.Output()
	case ".zst":
		d, err := zstd.NewReader(f, zstd.WithDecoderMaxMemory(maxModule))
		if err != nil {
			return nil, err
		}
		defer d.Close()
		return io.ReadAll(io.LimitReader(d, maxModule))
	default:
		return io.ReadAll(f)
	}
}
