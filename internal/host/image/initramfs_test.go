package image

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/cavaliergopher/cpio"

	"github.com/wrenn-dev/wrenn/internal/linux/filesum"
)

func testStore(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// testKernel has the modules of GuestModules and no kernel.
func testKernel(t *testing.T) Kernel {
	builtin := "kernel/fs/ext4.ko\n"
	for _, name := range append([]string{"tun", "veth", "br_netfilter"}, laterModules...) {
		if name != "loop" {
			builtin += "kernel/" + name + ".ko\n"
		}
	}
	return Kernel{Release: "6.1.0-test", ModuleDir: makeModules(t, builtin, map[string][]string{
		"fuse.ko": {"depends="}, "loop.ko": {"depends=cdrom,overlay"}, "cdrom.ko": {"depends="},
		"virtio.ko": {"depends="}, "virtio_mmio.ko": {"depends=virtio"}, "virtio_blk.ko": {"depends=virtio"},
		"virtio_net.ko": {"depends=virtio"}, "overlay.ko": {"depends="}, "erofs.ko": {"depends="}, "tcp_diag.ko": {"depends="},
		"kvm-amd.ko": {"depends="},
	})}
}

func TestInitramfsHoldsGuestAndModules(t *testing.T) {
	s, k := testStore(t), testKernel(t)
	guest := bytes.Repeat([]byte("guest"), 1001)
	initramfs, err := s.EnsureInitramfs(t.Context(), k, guest, "kvm_amd")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(initramfs.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	files := map[string]string{}
	for r := cpio.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[fmt.Sprintf("%s %o", h.Name, h.Mode)] = string(data)
	}
	if files["init 100755"] != string(guest) {
		t.Error("init is not the guest")
	}
	want := "virtio.ko\nvirtio_mmio.ko\nvirtio_blk.ko\nvirtio_net.ko\noverlay.ko\nerofs.ko\ntcp_diag.ko\nfuse.ko\nkvm-amd.ko\n"
	for dir, want := range map[string]string{"m": want, "later": "cdrom.ko\nloop.ko max_loop=0\n"} {
		order := files[dir+"/order 100644"]
		if order != want {
			t.Errorf("the order in %s is %q, want %q", dir, order, want)
		}
		for line := range strings.Lines(order) {
			name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
			if files[dir+"/"+name+" 100644"] == "" {
				t.Errorf("%s/%s is not there", dir, name)
			}
		}
	}
	if _, ok := files["dev/console 20600"]; !ok {
		t.Error("no dev/console")
	}
}

func TestInitramfsDependsOnItsPartsOnly(t *testing.T) {
	s, k := testStore(t), testKernel(t)
	make := func(s *Store, guest string) Initramfs {
		i, err := s.EnsureInitramfs(t.Context(), k, []byte(guest))
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	one := make(s, "one")
	if again := make(s, "one"); again != one {
		t.Error("the same parts gave another file")
	}
	if other := make(testStore(t), "one"); other.Digest != one.Digest {
		t.Error("the same parts gave another digest elsewhere")
	}
	if make(s, "two") == one {
		t.Error("another guest gave the same file")
	}
	if err := os.WriteFile(one.Path, []byte("damage"), 0o644); err != nil {
		t.Fatal(err)
	}
	make(s, "one")
	if digest, _, err := filesum.SHA256(one.Path); err != nil || digest != one.Digest {
		t.Errorf("a damaged file stayed: %s, %v", digest, err)
	}
	for n := range 2 * keptInitramfs {
		make(s, fmt.Sprint(n))
	}
	entries, err := os.ReadDir(s.dir + "/initramfs")
	if err != nil || len(entries) != keptInitramfs {
		t.Errorf("%d files stayed, want %d", len(entries), keptInitramfs)
	}
}

func TestInitramfsNeedsAGuest(t *testing.T) {
	if _, err := testStore(t).EnsureInitramfs(t.Context(), testKernel(t), nil); err == nil {
		t.Error("an initramfs without a guest was made")
	}
}
