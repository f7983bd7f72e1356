package image

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// TestMinimalKeepsItsDigest: a recipe without the fields of later versions has the digest
// that it had before them, so that an upgrade builds no template again.
func TestMinimalKeepsItsDigest(t *testing.T) {
	const want = "7143c6f0f2324d2d6c1a231449ef1b373c4b9be29691a0e071dd0956351a8d83"
	if got := Minimal().Digest(); got != want {
		t.Errorf("minimal has the digest %s, want %s", got, want)
	}
}

func TestBuiltInRecipesAreValid(t *testing.T) {
	seen := make(map[string]bool)
	for _, name := range BuiltInNames() {
		r, ok := BuiltIn(name)
		if err := r.validate(); err != nil || !ok || r.Name != name {
			t.Errorf("%s: %v", name, err)
		}
		spacious := r
		if spacious.Space = 1; spacious.Digest() != r.Digest() {
			t.Errorf("%s: the space for a build changes the digest", name)
		}
		if seen[r.Digest()] {
			t.Errorf("%s has the digest of another recipe", name)
		}
		seen[r.Digest()] = true
	}
	if _, ok := BuiltIn("alpine"); ok {
		t.Error("alpine is built in")
	}
}

func TestRecipeIsChecked(t *testing.T) {
	for name, change := range map[string]func(*Recipe){
		"name":             func(r *Recipe) { r.Name = "../x" },
		"suite":            func(r *Recipe) { r.Suite = "Book Worm" },
		"package":          func(r *Recipe) { r.Packages = []string{"-o"} },
		"relative file":    func(r *Recipe) { r.Files = []File{{Path: "etc/x", Mode: 0o644}} },
		"file above":       func(r *Recipe) { r.Files = []File{{Path: "/etc/../../x", Mode: 0o644}} },
		"root as file":     func(r *Recipe) { r.Files = []File{{Path: "/", Mode: 0o644}} },
		"special bits":     func(r *Recipe) { r.Files = []File{{Path: "/x", Mode: 0o755 | fs.ModeSetuid}} },
		"ready, no start":  func(r *Recipe) { r.Start = Start{Ready: "true"} },
		"long start":       func(r *Recipe) { r.Start = Start{Command: strings.Repeat("x", maxStartText+1)} },
		"NUL in the start": func(r *Recipe) { r.Start = Start{Command: "a\x00b"} },
		"no port":          func(r *Recipe) { r.Start = Start{Command: "a", RenewedPath: "/a"} },
		"no path":          func(r *Recipe) { r.Start = Start{Command: "a", RenewedPort: 1} },
		"relative path":    func(r *Recipe) { r.Start = Start{Command: "a", RenewedPort: 1, RenewedPath: "a"} },
		"lines in a path":  func(r *Recipe) { r.Start = Start{Command: "a", RenewedPort: 1, RenewedPath: "/a\r\nB: c"} },
		"long path": func(r *Recipe) {
			r.Start = Start{Command: "a", RenewedPort: 1, RenewedPath: "/" + strings.Repeat("a", 255)}
		},
		"long wait": func(r *Recipe) { r.Start = Start{Command: "a", ReadySec: MaxReadySec + 1} },
	} {
		r := Minimal()
		if err := r.validate(); err != nil {
			t.Fatal(err)
		}
		change(&r)
		if err := r.validate(); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v, want a refusal", name, err)
		}
	}
}

func TestFilesOfARecipe(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "have"), 0o700); err != nil {
		t.Fatal(err)
	}
	files := []File{{"/a/b/run", 0o755, "#!"}, {"/a/b/data", 0o640, "x"}, {"/have/it", 0o644, "y"}}
	if err := writeFiles(dir, files); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]fs.FileMode{
		"a": fs.ModeDir | 0o755, "a/b": fs.ModeDir | 0o755, "have": fs.ModeDir | 0o700, "a/b/run": 0o755, "a/b/data": 0o640, "have/it": 0o644,
	} {
		if info, err := os.Stat(filepath.Join(dir, path)); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v, want %v", path, info, err, want)
		}
	}
	if got, _ := os.ReadFile(filepath.Join(dir, "a/b/data")); string(got) != "x" {
		t.Errorf("a/b/data holds %q", got)
	}
	if err := writeFiles(dir, []File{{"/out/x", 0o644, "x"}}); err == nil {
		t.Error("a file was written through a link that leads outside of the tree")
	}
}
