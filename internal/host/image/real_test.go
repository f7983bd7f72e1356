package image_test

import (
	"log/slog"
	"os"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host/image"
)

// realStore opens the image directory that the test run shares, which
// scripts/test.sh prepares, or skips.
func realStore(t *testing.T) *image.Store {
	t.Helper()
	dir := os.Getenv("WRENN_TEST_IMAGES")
	s, err := image.Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRealStore(t *testing.T) {
	s := realStore(t)
	progress := func(e image.Event) { t.Log(e.Stage, e.Detail) }
	k, err := s.EnsureKernel(t.Context(), progress)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", k)
	tmpl, err := s.EnsureTemplate(t.Context(), image.Minimal(), progress)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", tmpl)
	i, err := s.EnsureInitramfs(t.Context(), k, []byte("guest"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", i)
}
