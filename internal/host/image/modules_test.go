package image

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// makeModules writes a module tree: file name to .modinfo entries.
func makeModules(t *testing.T, builtin string, modules map[string][]string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "modules.builtin"), []byte(builtin), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, info := range modules {
		path := filepath.Join(dir, "kernel", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, makeELF(t, nil, []byte(strings.Join(info, "\x00")+"\x00")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func someModules(t *testing.T) string {
	return makeModules(t, "kernel/fs/ext4/ext4.ko\n", map[string][]string{
		"drivers/virtio/virtio.ko":      {"license=GPL", "depends="},
		"drivers/virtio/virtio_ring.ko": {"depends=virtio"},
		"drivers/net/virtio_net.ko":     {"depends=virtio_ring,virtio,net-failover"},
		"drivers/net/net_failover.ko":   {"depends=failover"},
		"net/core/failover.ko":          {"depends="},
		"lib/libcrc32c.ko":              {"softdep=pre: crc32c crc32c-intel post: never", "depends="},
		"arch/crc32c-intel.ko":          {"depends="},
		"fs/erofs.ko":                   {"depends=libcrc32c"},
		"loop/a.ko":                     {"depends=b"},
		"loop/b.ko":                     {"depends=a"},
		"broken/needs.ko":               {"depends=absent"},
	})
}

func TestResolveOrdersByDependency(t *testing.T) {
	for _, test := range []struct {
		ask  []string
		want string // empty: an error
	}{
		{[]string{"virtio_net"}, "virtio virtio_ring failover net_failover virtio_net"},
		{[]string{"erofs", "ext4"}, "crc32c_intel libcrc32c erofs"},
		{[]string{"crc32c_intel", "crc32c-intel", "virtio"}, "crc32c_intel virtio"},
		{[]string{"a"}, "b a"},
		{[]string{"needs"}, ""},
		{[]string{"../../etc/passwd"}, ""},
	} {
		set, err := openModules(someModules(t))
		if err != nil {
			t.Fatal(err)
		}
		order, err := set.resolve(test.ask)
		var got []string
		for _, m := range order {
			got = append(got, m.name)
		}
		if (err != nil) != (test.want == "") || err == nil && strings.Join(got, " ") != test.want {
			t.Errorf("%v: got %v, %v, want %q", test.ask, got, err, test.want)
		}
	}
}

func TestCopyModulesUnpacks(t *testing.T) {
	src := makeModules(t, "", map[string][]string{"fs/plain.ko": nil, "fs/packed.ko": nil, "fs/squeezed.ko": nil})
	packed := filepath.Join(src, "kernel", "fs", "packed.ko")
	if out, err := exec.Command("xz", packed).CombinedOutput(); err != nil {
		t.Fatalf("xz: %v\n%s", err, out)
	}
	squeezed := filepath.Join(src, "kernel", "fs", "squeezed.ko")
	content, err := os.ReadFile(squeezed)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(squeezed+".zst", packZstd(t, content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(squeezed); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/usr/src/linux", filepath.Join(src, "build")); err != nil {
		t.Fatal(err)
	}
	dst := filepath.Join(t.TempDir(), "copy")
	if err := copyModules(dst, src); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(dst, "build")); err == nil {
		t.Error("a link out of the tree was copied")
	}
	set, err := openModules(dst)
	if err != nil {
		t.Fatal(err)
	}
	order, err := set.resolve([]string{"packed", "plain", "squeezed"})
	if err != nil || len(order) != 3 {
		t.Fatalf("%v, %v", order, err)
	}
	if !slices.ContainsFunc(order, func(m module) bool { return strings.HasSuffix(m.path, "packed.ko") }) {
		t.Errorf("no unpacked name: %v", order)
	}
}
