package runsc

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/linux/filesum"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string, mode os.FileMode) string {
	t.Helper()
	check(t, os.MkdirAll(filepath.Dir(path), 0o755))
	check(t, os.WriteFile(path, []byte(text), mode))
	return path
}

// program writes a stand-in for runsc that reports version and knows no flag but
// --known and those of Try. It runs programs without a sandbox.
func program(t *testing.T, path, version string) string {
	t.Helper()
	return write(t, path, `#!/bin/sh
for a; do case $a in
	--sidecar-usage-policy=*|--known|--version) ;;
	--root=*|--platform=systrap|--network=none|--ignore-cgroups) ;;
	do) shift $(($# - 1)); exec "$1";;
	*) echo "flag provided but not defined: $a" >&2; exit 2;;
esac; done
echo "runsc version `+version+`"
echo "spec: 1.2.1"
`, 0o755)
}

// built puts a program into the directory dir as `make runsc` does.
func built(t *testing.T, dir, version string, made time.Time) string {
	t.Helper()
	path := program(t, filepath.Join(dir, "new", programFile), version)
	sum, _, err := filesum.SHA256(path)
	check(t, err)
	home := filepath.Join(dir, sum[:32])
	about := write(t, filepath.Join(dir, "new", "build.json"), `{"digest": "`+sum+`"}`, 0o644)
	check(t, os.Chtimes(about, made, made))
	check(t, os.Rename(filepath.Dir(path), home))
	return home
}

func find(t *testing.T, s Source) Installed {
	t.Helper()
	in, err := s.Find(t.Context())
	check(t, err)
	return in
}

func TestNewestBuiltProgramIsCurrent(t *testing.T) {
	dir := t.TempDir()
	s := Source{Built: filepath.Join(dir, "none"), Flags: []string{"--known"}}
	if _, err := s.Find(t.Context()); fault.As(err).Reason != "vmm_missing" {
		t.Fatalf("no build: got %v, want vmm_missing", err)
	}
	s.Built = dir
	day := time.Unix(1_700_000_000, 0)
	home := built(t, dir, "newer", day.Add(time.Hour))
	built(t, dir, "older", day)
	check(t, os.Mkdir(filepath.Join(dir, ".new-cut-off"), 0o755))
	if in := find(t, s); in.Version != "newer" || filepath.Dir(in.Path) != home || in.Sidecars != "" {
		t.Fatalf("the current program is %+v, want the newest without sidecars", in)
	}
	write(t, filepath.Join(home, programFile), "#!/bin/sh\necho runsc version other\n", 0o755)
	if _, err := s.Find(t.Context()); fault.As(err).Reason != "vmm_not_executable" {
		t.Fatalf("a changed program: got %v, want vmm_not_executable", err)
	}
}

func TestOperatorsProgramIsChecked(t *testing.T) {
	dir := t.TempDir()
	s := Source{Program: program(t, filepath.Join(dir, "release", "runsc"), "release-20260601.0"), Flags: []string{"--known"}}
	if in := find(t, s); in.Version != "release-20260601.0" || len(in.Digest) != 64 || in.immutable {
		t.Errorf("got %+v, want the version that the program reports", in)
	}
	check(t, os.Symlink("release/runsc", filepath.Join(dir, "link")))
	write(t, filepath.Join(dir, "release", sidecarDir, "gvisor_sentry"), "sentry", 0o755)
	linked := s
	linked.Program = filepath.Join(dir, "link")
	if in := find(t, linked); in.Path != s.Program || !slices.Equal(in.SidecarNames, []string{"gvisor_sentry"}) || in.Sidecars == "" {
		t.Errorf("through a link: got %+v, want the release with its sidecars", in)
	}
	for what, c := range map[string]struct {
		source Source
		reason string
	}{
		"no file":           {Source{Program: filepath.Join(dir, "none")}, "vmm_missing"},
		"a directory":       {Source{Program: dir}, "vmm_not_executable"},
		"not executable":    {Source{Program: write(t, filepath.Join(dir, "text"), "text", 0o644)}, "vmm_not_executable"},
		"an unknown flag":   {Source{Program: s.Program, Flags: []string{"--unknown"}}, "vmm_version"},
		"another program":   {Source{Program: "/bin/true"}, "vmm_version"},
		"a damaged program": {Source{Program: write(t, filepath.Join(dir, "damaged"), "\x7fELF", 0o755)}, "vmm_version"},
	} {
		_, err := c.source.Find(t.Context())
		if f := fault.As(err); err == nil || f.Reason != c.reason || !fault.Is(err, fault.Unsupported) {
			t.Errorf("%s: got %v, want %s", what, err, c.reason)
		}
	}
}

// TestKeepTriesANewProgramOnce: a program that cannot run a sandbox here is not kept,
// and one that is kept is not tried again with another guest agent.
func TestKeepTriesANewProgramOnce(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	s := Open(filepath.Join(dir, "kept"))
	source := Source{Program: filepath.Join(dir, "runsc")}
	agent := func(text string) string { return write(t, filepath.Join(dir, text), text, 0o400) }
	broken := filepath.Join(dir, "broken")
	program := func() Installed {
		write(t, source.Program, "#!/bin/sh\ncase $* in *--version) echo runsc version 1;; *) [ ! -e "+broken+" ] || { echo ptrace: forbidden; exit 128; };; esac\n", 0o755)
		return find(t, source)
	}
	write(t, broken, "", 0o600)
	_, err := s.Keep(t.Context(), program(), agent("one"))
	if fault.ReasonOf(err) != "vmm_unusable" || !strings.Contains(err.Error(), "ptrace: forbidden") {
		t.Fatalf("a program that cannot run a sandbox: got %v, want vmm_unusable with its message", err)
	}
	if kept, err := s.Builds(); err != nil || len(kept) != 0 {
		t.Errorf("kept are %v (%v), want none", kept, err)
	}
	check(t, os.Remove(broken))
	_, err = s.Keep(t.Context(), program(), agent("one"))
	check(t, err)
	write(t, broken, "", 0o600)
	_, err = s.Keep(t.Context(), program(), agent("two"))
	check(t, err)
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if strings.Contains(os.Getenv("WRENN_REQUIRE"), "root") {
		t.Fatal("a mount namespace needs root")
	}
	t.Skip("a mount namespace needs root")
}

// TestKeptBuildOutlivesUpdates: an update of the program, of its sidecars or of the
// agent makes another build, and the older one stays as it was.
func TestKeptBuildOutlivesUpdates(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	s := Open(filepath.Join(dir, "kept"))
	release := filepath.Join(dir, "release", "runsc")
	sidecar := filepath.Join(dir, "release", sidecarDir, "gvisor_sentry")
	agent := filepath.Join(dir, "agent")
	program(t, release, "1")
	write(t, sidecar, "sentry 1", 0o755)
	write(t, agent, "agent 1", 0o400)
	source := Source{Program: release}
	keep := func() Build {
		t.Helper()
		b, err := s.Keep(t.Context(), find(t, source), agent)
		check(t, err)
		return b
	}
	first := keep()
	if again := keep(); again != first {
		t.Errorf("the same files: got %+v, want %+v", again, first)
	}
	program(t, release, "2") // in place, as an installer may
	second := keep()
	write(t, sidecar, "sentry 2", 0o755)
	third := keep()
	check(t, os.Remove(agent))
	write(t, agent, "agent 2", 0o400)
	fourth := keep()
	all, err := s.Builds()
	check(t, err)
	ids := map[string]bool{}
	for _, b := range all {
		ids[b.ID] = true
		check(t, Open(filepath.Dir(b.Dir)).Verify(b))
	}
	if len(ids) != 4 || first.Firmware() != second.Firmware() || second.Firmware() == third.Firmware() || third.Firmware() == fourth.Firmware() {
		t.Fatalf("%d builds are kept (%v), want 4 that differ", len(ids), all)
	}
	text, err := os.ReadFile(filepath.Join(first.Dir, sidecarDir, "gvisor_sentry"))
	if err != nil || string(text) != "sentry 1" {
		t.Errorf("the first sidecar is %q (%v), want the one of its time", text, err)
	}
	if first.Bytes() == 0 {
		t.Error("a kept build takes no space")
	}
	for range 2 { // it is idempotent
		check(t, s.Remove(t.Context(), first.ID))
	}
	if n := first.Bytes(); n != 0 {
		t.Errorf("a build that was removed after it was listed takes %d bytes", n)
	}
	if _, err := s.Find(first.ID); fault.As(err).Reason != "vmm_build_missing" {
		t.Errorf("a removed build: got %v, want vmm_build_missing", err)
	}
	if s.Remove(t.Context(), "../release") == nil {
		t.Error("a path was taken for the id of a build")
	}
}

func TestDamagedBuildIsRefusedAndReplaced(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	source := Source{Program: program(t, filepath.Join(dir, "runsc"), "1")}
	agent := write(t, filepath.Join(dir, "agent"), "agent", 0o400)
	kept, err := Open(filepath.Join(dir, "kept")).Keep(t.Context(), find(t, source), agent)
	check(t, err)
	for _, damage := range []func() error{
		func() error { return os.WriteFile(kept.Program(), []byte("x"), 0o555) },
		func() error {
			return errors.Join(os.Remove(kept.AgentImage()), os.WriteFile(kept.AgentImage(), nil, 0o400))
		},
		func() error {
			dir := filepath.Join(kept.Dir, sidecarDir)
			return errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "other"), nil, 0o755))
		},
		func() error { return os.WriteFile(filepath.Join(kept.Dir, "build.json"), []byte("{"), 0o444) },
		// Its parts are shorter than digests, which users of a Build may cut.
		func() error {
			return os.WriteFile(filepath.Join(kept.Dir, "build.json"), []byte(`{"id": "`+kept.ID+`", "agent": "x"}`), 0o444)
		},
	} {
		check(t, damage())
		s := Open(filepath.Dir(kept.Dir)) // another agent
		b, err := s.Find(kept.ID)
		if err == nil {
			err = s.Verify(b)
		}
		if fault.As(err).Reason != "vmm_build_damaged" {
			t.Errorf("got %v, want vmm_build_damaged", err)
		}
		again, err := s.Keep(t.Context(), find(t, source), agent)
		check(t, err)
		check(t, Open(filepath.Dir(again.Dir)).Verify(again))
	}
	left, err := filepath.Glob(filepath.Join(dir, "kept", ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestDamagedBuildLeavesOthersAlone: sandboxes under a whole build do not need the
// description of another one.
func TestDamagedBuildLeavesOthersAlone(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	source := Source{Program: program(t, filepath.Join(dir, "runsc"), "1")}
	s := Open(filepath.Join(dir, "kept"))
	kept, err := s.Keep(t.Context(), find(t, source), write(t, filepath.Join(dir, "agent"), "agent", 0o400))
	check(t, err)
	write(t, filepath.Join(filepath.Dir(kept.Dir), strings.Repeat("0", 32), "build.json"), "", 0o444)
	builds, err := s.Builds()
	if err != nil || len(builds) != 1 || builds[0].ID != kept.ID {
		t.Errorf("beside a damaged build: got %v, %v; want the whole one", builds, err)
	}
}

func TestFlagsAskForEmbeddedSidecarsOnlyWithoutOwn(t *testing.T) {
	if got := strings.Join(Build{}.Flags(), " "); !strings.Contains(got, "EMBEDDED_FALLBACK") {
		t.Errorf("without sidecars: %q, want the embedded ones asked for", got)
	}
	if got := (Build{Sidecars: "sum"}).Flags(); len(got) > 0 {
		t.Errorf("with sidecars: %q, want none", got)
	}
}
