package bench

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// realImages returns the template and a build of runsc on this machine, or skips the
// test. It fails where WRENN_REQUIRE demands VMs.
func realImages(t *testing.T) (image, runsc string) {
	t.Helper()
	images := os.Getenv("WRENN_TEST_IMAGES")
	if images == "" {
		images = "/var/lib/wrenn/images"
	}
	image = filepath.Join(images, "templates", "minimal", "current", "root.erofs")
	builds, _ := filepath.Glob(filepath.Join(images, "runsc", "*", "runsc"))
	if _, err := os.Stat(image); err == nil && len(builds) > 0 && os.Geteuid() == 0 {
		return image, builds[0]
	}
	if strings.Contains(os.Getenv("WRENN_REQUIRE"), "vm") {
		t.Fatal("WRENN_REQUIRE demands real sandboxes, but there is no template, no runsc, or no root")
	}
	t.Skip("no template and runsc here, or not root")
	return "", ""
}

// TestBareSubjects measures real containers of runsc and real processes once.
func TestBareSubjects(t *testing.T) {
	image, runsc := realImages(t)
	o := Options{
		Size: testSize, Burst: 2, FileBytes: 1 << 20, Note: t.Logf, Runsc: &BareRunsc{Program: runsc, RootImage: image}, Native: &BareNative{RootImage: image},
	}
	for _, s := range []other{newRunscSubject(o), newNativeSubject(o)} {
		rows := s.rows()
		if err := s.prepare(t.Context()); err != nil {
			t.Fatalf("%s: %v", rows.subject, err)
		}
		s.round(t.Context())
		s.burst(t.Context())
		for name, f := range rows.failures {
			t.Errorf("%s: %s failed: %v", rows.subject, name, f.first)
		}
		for name, m := range rows.byName {
			if m.summarise(); m.N == 0 || m.Min <= 0 {
				t.Errorf("%s: %s has the samples %v", rows.subject, name, m.Samples)
			}
		}
		if err := s.close(); err != nil {
			t.Errorf("%s: %v", rows.subject, err)
		}
	}
}
