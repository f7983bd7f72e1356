package image

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// realStore opens the images that the test run shares, or skips where there
// are none and WRENN_REQUIRE demands none.
func realStore(t *testing.T) *Store {
	t.Helper()
	dir := os.Getenv("WRENN_TEST_IMAGES")
	if dir == "" {
		dir = "/var/lib/wrenn/images"
	}
	required := strings.Contains(os.Getenv("WRENN_REQUIRE"), "vm")
	if _, err := os.Stat(dir); err != nil && !required {
		t.Skip("no images are prepared here: run 'wrenn image build'")
	}
	s, err := Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Kernel(); fault.Is(err, fault.NotFound) && !required {
		t.Skip("no kernel is prepared here: run 'wrenn image build'")
	}
	return s
}

func TestRealKernelHasWhatGuestsNeed(t *testing.T) {
	s := realStore(t)
	k, err := s.Kernel()
	if err != nil {
		t.Fatal(err)
	}
	if err := k.verify(); err != nil {
		t.Error(err)
	}
	vmlinux, err := os.ReadFile(k.Vmlinux)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkPVH(vmlinux); err != nil {
		t.Error(err)
	}
	set, err := openModules(k.ModuleDir)
	if err != nil {
		t.Fatal(err)
	}
	order, err := set.resolve(slices.Concat(GuestModules(), laterModules, []string{"kvm_amd"}))
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) int { return slices.IndexFunc(order, func(m module) bool { return m.name == name }) }
	for _, pair := range [][2]string{{"virtio_ring", "virtio_mmio"}, {"net_failover", "virtio_net"}, {"libcrc32c", "erofs"}, {"kvm", "kvm_amd"}} {
		if first, then := at(pair[0]), at(pair[1]); first < 0 || then < first {
			t.Errorf("%s is loaded at %d, %s at %d", pair[0], first, pair[1], then)
		}
	}
}

func TestRealTemplateHasWhatPeopleExpect(t *testing.T) {
	s := realStore(t)
	tmpl, err := s.Template("minimal")
	if err != nil {
		t.Fatal(err)
	}
	if err := tmpl.verify(); err != nil {
		t.Error(err)
	}
	packages, err := os.ReadFile(filepath.Join(filepath.Dir(tmpl.Path), "packages.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range Minimal().Packages {
		if !strings.Contains("\n"+string(packages), "\n"+name+"=") {
			t.Errorf("%s is not in the image", name)
		}
	}
	if tmpl.SizeBytes > 320<<20 {
		t.Errorf("the image has %d MB; it should stay small", tmpl.SizeBytes>>20)
	}
}
