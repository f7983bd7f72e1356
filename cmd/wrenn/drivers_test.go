package main

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/image"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestOlderTemplateIsBuiltAgain: the sentry may be unable to read the template of an
// older version. Without the tools, the build of another one fails.
func TestOlderTemplateIsBuiltAgain(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	dir := t.TempDir()
	images, err := image.Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	digest := strings.Repeat("a", 64)
	home := filepath.Join(dir, "templates", "minimal", digest)
	if err := os.MkdirAll(home, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(digest, filepath.Join(filepath.Dir(home), "current")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		recipe  string
		builder int
		want    string
	}{
		{image.Minimal().Digest(), 0, ""},
		{"that of an older version", 0, "tool_missing"},
		{"that of another version", 2, ""},
	} {
		data, err := json.Marshal(image.Template{Name: "minimal", Digest: digest, RecipeDigest: c.recipe, Builder: c.builder})
		if err == nil {
			err = os.WriteFile(filepath.Join(home, "template.json"), data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := fault.ReasonOf(renewTemplate(t.Context(), images, image.Quiet)); got != c.want {
			t.Errorf("with the recipe %s of builder %d: got the reason %q, want %q", c.recipe, c.builder, got, c.want)
		}
	}
}

// TestBuiltInNames: the control plane names the same built-in templates as the host.
func TestBuiltInNames(t *testing.T) {
	if got, want := sandbox.BuiltInTemplates(), image.BuiltInNames(); !slices.Equal(got, want) {
		t.Errorf("package sandbox lists %q, want %q", got, want)
	}
}
