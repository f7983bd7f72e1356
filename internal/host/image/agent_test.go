package image

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/linux/filesum"
)

func ensureAgent(t *testing.T, s *Store, guest string) Agent {
	t.Helper()
	a, err := s.EnsureAgent(t.Context(), []byte(guest))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if strings.Contains(os.Getenv("WRENN_REQUIRE"), "root") {
		t.Fatal("building images needs root")
	}
	t.Skip("building images needs root")
}

func TestAgentImageHoldsTheGuest(t *testing.T) {
	needRoot(t)
	// Its last block is not full, so that mkfs.erofs would put the end into the inode.
	guest := strings.Repeat("guest", 1001)
	agent := ensureAgent(t, testStore(t), guest)
	root := filepath.Join(t.TempDir(), "root")
	if out, err := exec.Command("fsck.erofs", "--extract="+root, "--preserve", agent.Path).CombinedOutput(); err != nil {
		t.Fatalf("fsck.erofs: %v\n%s", err, out)
	}
	got, err := os.ReadFile(filepath.Join(root, "wrenn-guest"))
	if err != nil || string(got) != guest {
		t.Errorf("the image holds %d bytes, %v; want the guest", len(got), err)
	}
	if st, err := os.Stat(filepath.Join(root, "wrenn-guest")); err == nil && st.Mode() != 0o755 {
		t.Errorf("the program has mode %v, want 0755", st.Mode())
	}
	raw, err := os.ReadFile(agent.Path)
	if err != nil || !bytes.Contains(raw, []byte("guest")) {
		t.Fatalf("the image is compressed: %v", err)
	}
	if layout := dataLayout(t, agent.Path, "/wrenn-guest"); layout != "plain" {
		t.Errorf("the program's data layout is %q, want plain blocks, which the sentry can read", layout)
	}
}

// dataLayout names the layout of a file's data: "plain" or "inline".
func dataLayout(t *testing.T, image, path string) string {
	t.Helper()
	out, err := exec.Command("dump.erofs", "--path="+path, image).CombinedOutput()
	if err != nil {
		t.Fatalf("dump.erofs: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		_, rest, ok := strings.Cut(line, "Layout: ")
		if !ok {
			continue
		}
		switch strings.Fields(rest)[0] {
		case "0":
			return "plain"
		case "2":
			return "inline"
		}
		return strings.TrimSpace(rest)
	}
	t.Fatalf("dump.erofs names no layout:\n%s", out)
	return ""
}

func TestAgentImagesAreKeptByContent(t *testing.T) {
	needRoot(t)
	s := testStore(t)
	one := ensureAgent(t, s, "one")
	if again := ensureAgent(t, s, "one"); again != one {
		t.Errorf("the same agent gave %+v, want %+v", again, one)
	}
	t.Run("without tools", func(t *testing.T) { // or on a full disk
		t.Setenv("PATH", t.TempDir())
		if again := ensureAgent(t, s, "one"); again != one {
			t.Errorf("the same agent gave %+v, want %+v", again, one)
		}
		if _, err := s.EnsureAgent(t.Context(), []byte("other")); fault.ReasonOf(err) != "tool_missing" {
			t.Errorf("another agent: got %v, want tool_missing", err)
		}
	})
	if other := ensureAgent(t, testStore(t), "one"); other.Digest != one.Digest {
		t.Error("the same agent gave another digest in another store")
	}
	if ensureAgent(t, s, "two") == one {
		t.Error("another agent gave the same image")
	}
	if err := os.WriteFile(one.Path, []byte("damage"), 0o600); err != nil {
		t.Fatal(err)
	}
	ensureAgent(t, s, "one")
	if digest, _, err := filesum.SHA256(one.Path); err != nil || digest != one.Digest {
		t.Errorf("a damaged image stayed: %s, %v", digest, err)
	}
	for n := range keptInitramfs + 1 {
		ensureAgent(t, s, strings.Repeat("x", n+1))
	}
	entries, err := os.ReadDir(filepath.Join(s.dir, "agents"))
	if err != nil || len(entries) != keptInitramfs {
		t.Errorf("%d images stayed, %v; want %d", len(entries), err, keptInitramfs)
	}
	nothingLeft(t, s)
	if _, err := s.EnsureAgent(t.Context(), nil); err == nil {
		t.Error("an image without a guest was made")
	}
}

// TestImagesHaveOnePath: a snapshot names the image that it needs by its path.
func TestImagesHaveOnePath(t *testing.T) {
	s := testStore(t)
	link := filepath.Join(t.TempDir(), "images")
	if err := os.Symlink(s.Dir(), link); err != nil {
		t.Fatal(err)
	}
	linked, err := Open(link, s.log)
	if err != nil || linked.Dir() != s.Dir() {
		t.Errorf("through a link the store is %v (%v), want %s", linked, err, s.Dir())
	}
}
