package image

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// The tests of this file build with the real tools for images, packages and
// namespaces, and with stand-ins for those that need the archive: their
// behaviour is in files, so that a test sets the archive's behaviour.

const fakeMmdebstrap = `#!/bin/sh
suite= target= hooks=
for a; do case $a in
	--customize-hook=*) hooks="$hooks${a#--customize-hook=}
";;
	-*) ;;
	*) if [ -z "$suite" ]; then suite=$a; elif [ -z "$target" ]; then target=$a; fi;;
esac; done
echo run >> "$FAKE/runs"
echo "I: running apt-get update..."
[ ! -e "$FAKE/fail" ] || { echo "E: the archive is not there" >&2; exit 1; }
[ ! -e "$FAKE/hang" ] || { echo $$ > "$FAKE/hanging"; sleep 1000 & echo "Get:1 something"; wait; }
if [ "$target" != /dev/null ]; then
	for d in dev proc run tmp var/log/apt etc/apt/apt.conf.d; do mkdir -p "$target/$d"; done
	echo secret > "$target/etc/apt/apt.conf.d/99mmdebstrap"
	echo host > "$target/etc/hostname"; echo log > "$target/var/log/apt/term.log"
	ln -s /etc/hosts "$target/etc/resolv.conf"
	umask > "$target/umask"
	cat "$FAKE/content" > "$target/content"
	echo "Setting up content (1.0) ..."
fi
sh -e -c "$hooks" exec "$target"
`

func writeScript(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// fakeArchive puts the stand-ins first in PATH and returns the directory
// that steers them.
func fakeArchive(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		if strings.Contains(os.Getenv("WRENN_REQUIRE"), "root") {
			t.Fatal("building images needs root")
		}
		t.Skip("building images needs root")
	}
	bin, dir := t.TempDir(), t.TempDir()
	writeScript(t, filepath.Join(bin, "mmdebstrap"), strings.ReplaceAll(fakeMmdebstrap, "$FAKE", dir))
	writeScript(t, filepath.Join(bin, "chroot"), "#!/bin/sh\nroot=$1; shift; cd $root\ncase $1 in dpkg-query) echo content=1.0;; *) exec \"$@\";; esac\n")
	writeScript(t, filepath.Join(bin, "apt-cache"), "#!/bin/sh\necho '  Depends: linux-image-9-test'\n")
	writeScript(t, filepath.Join(bin, "apt-get"), "#!/bin/sh\ncp "+dir+"/linux-image-9-test_9.1-2_amd64.deb .\n")
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	if err := os.WriteFile(filepath.Join(dir, "content"), []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func touch(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

func runs(t *testing.T, fake string) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(fake, "runs"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Count(string(b), "\n")
}

// nothingLeft fails if a build left something in the store.
func nothingLeft(t *testing.T, s *Store) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.dir, "tmp"))
	if err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

var testRecipe = Recipe{Name: "test", Suite: "bookworm", Packages: []string{"content"}, Commands: []string{"echo it\\'s done > done"}}

func TestTemplateIsBuiltOnce(t *testing.T) {
	fake, s := fakeArchive(t), testStore(t)
	other, err := Open(s.dir, s.log) // another process, as far as locks go
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	results := make([]Template, 6)
	for i := range results {
		wg.Go(func() {
			var err error
			if results[i], err = []*Store{s, other}[i%2].EnsureTemplate(t.Context(), testRecipe, Quiet); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := runs(t, fake); n != 1 {
		t.Errorf("built %d times", n)
	}
	for _, r := range results {
		if r != results[0] {
			t.Errorf("%+v differs from %+v", r, results[0])
		}
	}
	nothingLeft(t, s)
	got, err := s.Template("test")
	if err != nil || got != results[0] {
		t.Errorf("Template: %+v, %v", got, err)
	}
	if all, err := s.Templates(); err != nil || len(all) != 1 || all[0] != got {
		t.Errorf("Templates: %+v, %v", all, err)
	}
}

// TestRecipesStateTheirSpace: a build does not begin without the space of its recipe.
func TestRecipesStateTheirSpace(t *testing.T) {
	fake, s := fakeArchive(t), testStore(t)
	s.free = func(string) (uint64, error) { return templateSpace, nil }
	large := testRecipe
	large.Space = templateSpace + 1
	if _, err := s.EnsureTemplate(t.Context(), large, Quiet); fault.ReasonOf(err) != "disk_full" {
		t.Errorf("a recipe that needs more space than there is: got %v, want disk_full", err)
	}
	if n := runs(t, fake); n != 0 {
		t.Errorf("built %d times without space", n)
	}
	if _, err := s.EnsureTemplate(t.Context(), testRecipe, Quiet); err != nil {
		t.Errorf("a recipe that states no space: got %v", err)
	}
}

func TestTemplateIsCleanAndReproducible(t *testing.T) {
	fakeArchive(t)
	one, err := testStore(t).EnsureTemplate(t.Context(), testRecipe, Quiet)
	if err != nil {
		t.Fatal(err)
	}
	two, err := testStore(t).EnsureTemplate(t.Context(), testRecipe, Quiet)
	if err != nil || two.Digest != one.Digest {
		t.Errorf("built twice: %s and %s, %v", one.Digest, two.Digest, err)
	}
	root := t.TempDir()
	out, err := exec.Command("fsck.erofs", "--extract="+root, "--overwrite", one.Path).CombinedOutput()
	if err != nil {
		t.Fatalf("fsck.erofs: %v\n%s", err, out)
	}
	for path, want := range map[string]string{
		"content": "content", "done": "it's done\n", "umask": "0022\n", "etc/machine-id": "", "etc/resolv.conf": "",
	} {
		info, err := os.Lstat(filepath.Join(root, path))
		if err != nil || !info.Mode().IsRegular() {
			t.Errorf("%s: %v, %v", path, info, err)
			continue
		}
		if got, _ := os.ReadFile(filepath.Join(root, path)); string(got) != want {
			t.Errorf("%s holds %q, want %q", path, got, want)
		}
	}
	for _, path := range []string{"etc/hostname", "etc/apt/apt.conf.d/99mmdebstrap", "var/log/apt/term.log"} {
		if _, err := os.Lstat(filepath.Join(root, path)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is in the image", path)
		}
	}
	if layout := dataLayout(t, one.Path, "/content"); layout != "plain" {
		t.Errorf("the data of a small file is %s, want plain blocks, which the sentry can read", layout)
	}
	packages, err := os.ReadFile(filepath.Join(filepath.Dir(one.Path), "packages.txt"))
	if err != nil || string(packages) != "content=1.0\n" {
		t.Errorf("packages: %q, %v", packages, err)
	}
}

func TestTemplateVersions(t *testing.T) {
	fake, s := fakeArchive(t), testStore(t)
	first, err := s.EnsureTemplate(t.Context(), testRecipe, Quiet)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(first.Path, []byte("damage"), 0o644); err != nil {
		t.Fatal(err)
	}
	if repaired, err := s.EnsureTemplate(t.Context(), testRecipe, Quiet); err != nil || repaired.Digest != first.Digest || repaired.verify() != nil {
		t.Errorf("after damage: %+v, %v", repaired, err)
	}
	if err := os.WriteFile(filepath.Join(fake, "content"), []byte("newer"), 0o644); err != nil {
		t.Fatal(err)
	}
	if same, err := s.EnsureTemplate(t.Context(), testRecipe, Quiet); err != nil || same.Digest != first.Digest {
		t.Errorf("a good template was built again: %+v, %v", same, err)
	}
	second, err := s.RefreshTemplate(t.Context(), testRecipe, Quiet)
	if err != nil || second.Digest == first.Digest {
		t.Fatalf("refresh: %+v, %v", second, err)
	}
	changed := testRecipe
	changed.Commands = nil
	third, err := s.EnsureTemplate(t.Context(), changed, Quiet)
	if err != nil || third.Digest == second.Digest {
		t.Fatalf("another recipe: %+v, %v", third, err)
	}
	versions, err := s.Versions("test")
	if err != nil || len(versions) != 3 || versions[0] != third {
		t.Errorf("versions: %+v, %v", versions, err)
	}
	if n := runs(t, fake); n != 4 {
		t.Errorf("built %d times, want 4", n)
	}
	if found, err := s.Version(second.Digest); err != nil || found != second {
		t.Errorf("the version %s, which is not current: got %+v, %v", second.Digest, found, err)
	}
	for _, digest := range []string{"", "*", strings.Repeat("0", 64), "../" + second.Digest} {
		if _, err := s.Version(digest); !fault.Is(err, fault.NotFound) {
			t.Errorf("the version %q: got %v, want NotFound", digest, err)
		}
	}
}

func TestBuildFailureLeavesNothing(t *testing.T) {
	fake, s := fakeArchive(t), testStore(t)
	touch(t, filepath.Join(fake, "fail"))
	_, err := s.EnsureTemplate(t.Context(), testRecipe, Quiet)
	if !fault.Is(err, fault.HostFailed) || !strings.Contains(fault.As(err).Public, "the archive is not there") {
		t.Errorf("got %v", err)
	}
	if _, err := s.EnsureKernel(t.Context(), Quiet); !fault.Is(err, fault.HostFailed) {
		t.Errorf("got %v", err)
	}
	nothingLeft(t, s)
	if _, err := s.Template("test"); !fault.Is(err, fault.NotFound) {
		t.Errorf("Template: %v, want NotFound", err)
	}
	if all, err := s.Templates(); err != nil || len(all) > 0 {
		t.Errorf("Templates: %v, %v", all, err)
	}
}

func TestCancelEndsTheBuildAndItsProcesses(t *testing.T) {
	fake, s := fakeArchive(t), testStore(t)
	touch(t, filepath.Join(fake, "hang"))
	ctx, cancel := context.WithCancel(t.Context())
	_, err := s.EnsureTemplate(ctx, testRecipe, func(e Event) {
		if strings.HasPrefix(e.Detail, "Get:") {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want Canceled", err)
	}
	nothingLeft(t, s)
	if pid, err := os.ReadFile(filepath.Join(fake, "hanging")); err != nil || string(pid) != "1\n" {
		t.Errorf("the build was process %q of its namespace, %v: its children could outlive it", pid, err)
	}
}

func TestWaitingForAnotherBuildCanBeCancelled(t *testing.T) {
	s := testStore(t)
	release, err := s.lock(t.Context(), "template-test", Quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	ctx, cancel := context.WithCancel(t.Context())
	_, err = s.EnsureTemplate(ctx, testRecipe, func(e Event) {
		if e.Stage == "wait" {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want Canceled", err)
	}
}

func TestDeadBuildIsRemovedByTheNext(t *testing.T) {
	fakeArchive(t)
	s := testStore(t)
	for _, dir := range []string{"template-test~123/root/etc", "template-test2~123"} {
		if err := os.MkdirAll(filepath.Join(s.dir, "tmp", dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.EnsureTemplate(t.Context(), testRecipe, Quiet); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Join(s.dir, "tmp"))
	if err != nil || len(entries) != 1 || entries[0].Name() != "template-test2~123" {
		t.Errorf("left: %v, %v; want the other template's build alone", entries, err)
	}
}

func TestKernelFromAPackage(t *testing.T) {
	fake, s := fakeArchive(t), testStore(t)
	if _, err := s.Kernel(); !fault.Is(err, fault.NotFound) || !strings.Contains(fault.As(err).Public, "wrenn image build") {
		t.Errorf("no kernel yet: %v", err)
	}
	kernel := makeELF(t, pvhNote(), nil)
	tree := t.TempDir()
	for path, data := range map[string][]byte{
		"boot/vmlinuz-9-test":                       makeBzImage(packLZ4(t, kernel), len(kernel)),
		"lib/modules/9-test/modules.builtin":        nil,
		"lib/modules/9-test/kernel/fs/overlay.ko":   makeELF(t, nil, []byte("depends=\x00")),
		"DEBIAN/control":                            []byte("Package: linux-image-9-test\nVersion: 9.1-2\nArchitecture: amd64\nMaintainer: t\nDescription: t\n"),
		"usr/share/doc/linux-image-9-test/README.x": []byte("x"),
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(tree, path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(tree, path), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	deb := filepath.Join(fake, "linux-image-9-test_9.1-2_amd64.deb")
	if out, err := exec.Command("dpkg-deb", "--build", tree, deb).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb: %v\n%s", err, out)
	}
	k, err := s.EnsureKernel(t.Context(), Quiet)
	if err != nil {
		t.Fatal(err)
	}
	if k.Release != "9-test" || k.Package != "linux-image-9-test=9.1-2" {
		t.Errorf("got %+v", k)
	}
	if got, err := os.ReadFile(k.Vmlinux); err != nil || string(got) != string(kernel) {
		t.Errorf("vmlinux: %d bytes, %v", len(got), err)
	}
	module := filepath.Join(k.ModuleDir, "kernel", "fs", "overlay.ko")
	if err := os.WriteFile(module, []byte("damage"), 0o644); err != nil {
		t.Fatal(err)
	}
	again, err := s.EnsureKernel(t.Context(), Quiet)
	if err != nil || again.Digest != k.Digest || again.verify() != nil || runs(t, fake) != 2 {
		t.Errorf("after damage: %+v, %v, %d runs", again, err, runs(t, fake))
	}
	if same, err := s.EnsureKernel(t.Context(), Quiet); err != nil || same != again || runs(t, fake) != 2 {
		t.Errorf("a good kernel was built again: %v", err)
	}
	nothingLeft(t, s)
}

func TestPathLikeNamesAreRefused(t *testing.T) {
	s := testStore(t)
	for _, name := range []string{"", ".", "..", "../minimal", "a/b", "/etc", "A", "a..b", "-a", "a\x00b", strings.Repeat("a", 64)} {
		if _, err := s.Template(name); !fault.Is(err, fault.Invalid) {
			t.Errorf("Template(%q): %v, want Invalid", name, err)
		}
		if _, err := s.Versions(name); !fault.Is(err, fault.Invalid) {
			t.Errorf("Versions(%q): %v, want Invalid", name, err)
		}
		if _, err := s.EnsureTemplate(t.Context(), Recipe{Name: name, Suite: "bookworm"}, Quiet); !fault.Is(err, fault.Invalid) {
			t.Errorf("EnsureTemplate(%q): %v, want Invalid", name, err)
		}
	}
	for _, r := range []Recipe{
		{Name: "a", Suite: "../x"}, {Name: "a", Suite: "bookworm", Packages: []string{"--option"}},
		{Name: "a", Suite: "bookworm", Packages: []string{"curl,evil"}},
	} {
		if _, err := s.EnsureTemplate(t.Context(), r, Quiet); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v, want Invalid", r, err)
		}
	}
}

func TestMissingToolIsNamed(t *testing.T) {
	s := testStore(t)
	t.Setenv("PATH", t.TempDir())
	_, err := s.EnsureTemplate(t.Context(), testRecipe, Quiet)
	if !fault.Is(err, fault.Unsupported) || !strings.Contains(fault.As(err).Public, "make setup") {
		t.Errorf("got %v", err)
	}
}
