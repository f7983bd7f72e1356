package runtimes

import (
	"debug/elf"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// wanted are the modules of the guest's kernel that the features of the table use.
// The guest starts without them.
var wanted = []string{
	"veth", "bridge", "dummy", "vxlan", "wireguard", "tun", "nf_tables", "ip_tables", "iptable_filter", "sch_netem",
	"sctp", "vsock_loopback", "algif_hash", "fuse", "loop",
}

// loadModules puts the wanted modules and those that they need into a sandbox, and
// loads them. They come from the kernel package from which the guest's kernel is.
func (a agent) loadModules(ref sandbox.Ref) {
	a.t.Helper()
	var loaded []string
	for i, path := range modules(a.t) {
		to := fmt.Sprintf("/run/probe/%02d-%s", i, filepath.Base(path))
		a.upload(ref, path, to)
		loaded = append(loaded, to)
	}
	a.sh(ref, probePath+" load "+strings.Join(loaded, " "))
}

// modules returns the files of the wanted modules, each after those that it needs.
func modules(t testing.TB) (files []string) {
	t.Helper()
	byName := map[string]string{}
	err := filepath.WalkDir(filepath.Join(hosttest.ImagesDir(), "kernels", "current")+"/", func(path string, d fs.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(filepath.Base(path), ".ko"); ok && err == nil {
			byName[strings.ReplaceAll(name, "-", "_")] = path
		}
		return err
	})
	check(t, err)
	var add func(name string)
	add = func(name string) {
		path := byName[strings.ReplaceAll(name, "-", "_")]
		if path == "" || slices.Contains(files, path) {
			return // built into the kernel, or added before
		}
		for _, other := range needs(t, path) {
			add(other)
		}
		files = append(files, path)
	}
	for _, name := range wanted {
		add(name)
	}
	if len(files) < len(wanted) {
		t.Fatalf("the kernel package has %d of %d modules", len(files), len(wanted))
	}
	return files
}

// needs returns the names of the modules that a module depends on, from its section
// .modinfo.
func needs(t testing.TB, path string) []string {
	t.Helper()
	f, err := elf.Open(path)
	check(t, err)
	defer f.Close()
	info, err := f.Section(".modinfo").Data()
	check(t, err)
	for field := range strings.SplitSeq(string(info), "\x00") {
		if list, ok := strings.CutPrefix(field, "depends="); ok && list != "" {
			return strings.Split(list, ",")
		}
	}
	return nil
}
