package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wrenn-dev/wrenn/internal/host/image"
)

// TestImagesAreListed: every built-in template is listed, prepared or not, and every
// imported image.
func TestImagesAreListed(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	got := imagesOf([]image.Template{
		{Name: "base", RecipeDigest: "of an earlier version", Digest: "b", SizeBytes: 2, CreatedAt: at},
		{Name: "minimal", RecipeDigest: image.Minimal().Digest(), Digest: "a", SizeBytes: 1, CreatedAt: at},
		{Name: "oci-1", Digest: "c", SizeBytes: 3, CreatedAt: at, Imported: &image.Imported{Reference: "registry.example/a:1"}},
		{Name: "oci-2", Digest: "d", SizeBytes: 4, CreatedAt: at, Imported: &image.Imported{}},
		{Name: "own", Digest: "e", SizeBytes: 5, CreatedAt: at},
	})
	want := []imageOutput{
		{Name: "minimal", Kind: "built_in", State: "prepared", SizeBytes: 1, Digest: "a", CreatedAt: &at},
		{Name: "base", Kind: "built_in", State: "outdated", SizeBytes: 2, Digest: "b", CreatedAt: &at},
		{Name: "code-interpreter-v1", Kind: "built_in", State: "missing"},
		{Name: "desktop", Kind: "built_in", State: "missing"},
		{Name: "oci-1", Kind: "imported", State: "prepared", SizeBytes: 3, Digest: "c", CreatedAt: &at, Reference: "registry.example/a:1"},
		{Name: "oci-2", Kind: "imported", State: "prepared", SizeBytes: 4, Digest: "d", CreatedAt: &at},
		{Name: "own", Kind: "other", State: "prepared", SizeBytes: 5, Digest: "e", CreatedAt: &at},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
}
