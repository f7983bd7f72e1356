package templates_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wrenn-dev/wrenn/internal/build/plan"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/memstore"
	"github.com/wrenn-dev/wrenn/internal/control/templates"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// patience bounds waits for things that happen soon.
const patience = time.Minute

// fixture is a running Service over fake machines.
type fixture struct {
	*templates.Service
	t        *testing.T
	machines *fakeMachines
	store    *memstore.Store
	// wrap changes the store of the servers that start later.
	wrap func(templates.Store) templates.Store
	stop func()
	// endSession makes the store take the server for dead, which it does not notice.
	endSession func()
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := unstarted(t)
	f.run(1)
	return f
}

// unstarted returns a fixture without a server.
func unstarted(t *testing.T) *fixture {
	t.Helper()
	return &fixture{t: t, machines: newFakeMachines(t), store: memstore.New(time.Now)}
}

// run starts a server.
func (f *fixture) run(id control.ServerID) {
	f.t.Helper()
	dir := filepath.Join(f.t.TempDir(), "uploads")
	var store templates.Store = f.store.Templates()
	if f.wrap != nil {
		store = f.wrap(store)
	}
	s, err := templates.New(templates.Config{
		Store: store, Machines: f.machines, Server: id, Dir: dir, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	live, held := context.WithCancel(context.Background())
	sessionCtx, endSession := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); _ = f.store.HoldServer(sessionCtx, id, held) }()
	<-live.Done()
	f.endSession = func() { endSession(); <-ended }
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Run(ctx) }()
	f.Service, f.stop = s, func() { cancel(); <-done }
	f.t.Cleanup(f.stop)
}

// begin begins a build of the template t.
func (f *fixture) begin() templates.BuildID {
	f.t.Helper()
	_, b, err := f.Begin(context.Background(), templates.NewBuild{Name: "t"})
	if err != nil {
		f.t.Fatalf("Begin: %v", err)
	}
	return b.ID
}

// end waits for the end of a build and returns its log.
func (f *fixture) end(id templates.BuildID) (templates.Build, []templates.LogEntry) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var log []templates.LogEntry
	b, err := f.Follow(ctx, id, 0, func(e templates.LogEntry, _ templates.Build) error {
		log = append(log, e)
		return nil
	})
	if err != nil {
		f.t.Fatalf("Follow: %v; log: %v", err, messages(log))
	}
	return b, log
}

func messages(log []templates.LogEntry) string {
	var out []string
	for _, e := range log {
		out = append(out, e.Level+" "+e.Step+" "+e.Message)
	}
	return strings.Join(out, "\n")
}

// build carries out a Dockerfile with the files of context.
func (f *fixture) build(text string, context_ map[string]string, in templates.Inputs) (templates.Build, []templates.LogEntry) {
	f.t.Helper()
	d := templates.Dockerfile{Text: text}
	if context_ != nil {
		d.Context = f.upload(context_)
	}
	return f.end(f.start(d, in))
}

// start begins and starts a build.
func (f *fixture) start(d templates.Dockerfile, in templates.Inputs) templates.BuildID {
	f.t.Helper()
	_, b, err := f.BuildDockerfile(context.Background(), templates.NewBuild{Name: "t"}, d, in)
	if err != nil {
		f.t.Fatalf("BuildDockerfile: %v", err)
	}
	if b.Status == templates.Waiting { // it may have ended already
		f.t.Fatalf("after BuildDockerfile the build is %s, want building", b.Status)
	}
	return b.ID
}

// ready is build, which must end well.
func (f *fixture) ready(text string, files map[string]string, in templates.Inputs) (templates.Build, string) {
	f.t.Helper()
	b, log := f.build(text, files, in)
	if b.Status != templates.Ready {
		f.t.Fatalf("the build is %s (%+v), want ready; log:\n%s", b.Status, b.Reason, messages(log))
	}
	return b, messages(log)
}

// upload stores an archive and returns its key.
func (f *fixture) upload(files map[string]string) string {
	f.t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, name := range slices.Sorted(mapsKeys(files)) {
		h := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name])), Typeflag: tar.TypeReg}
		if target, ok := strings.CutPrefix(files[name], "->"); ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, target, 0
		}
		if err := w.WriteHeader(h); err != nil {
			f.t.Fatal(err)
		}
		if h.Size > 0 {
			_, _ = w.Write([]byte(files[name]))
		}
	}
	_, _ = w.Close(), z.Close()
	sum := sha256.Sum256(b.Bytes())
	key := hex.EncodeToString(sum[:])
	if err := f.PutBlob(context.Background(), templates.BlobKey{Key: key, Digest: key}, &b); err != nil {
		f.t.Fatalf("PutBlob: %v", err)
	}
	return key
}

func mapsKeys(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// content returns a file of the template that b made.
func (f *fixture) content(b templates.Build, name string) string {
	f.t.Helper()
	data, err := os.ReadFile(filepath.Join(f.machines.dir, "snapshot-"+string(b.Snapshot), name))
	if err != nil {
		return "missing: " + err.Error()
	}
	return string(data)
}

func TestBuild(t *testing.T) {
	f := newFixture(t)
	files := map[string]string{"a.txt": "A", "src/x.py": "X", "src/y.py": "Y", "src/z.md": "Z"}
	const text = `FROM template:base AS build
WORKDIR /w
ARG WHO=me
RUN echo "hello $WHO" > out.txt && pwd
COPY src/*.py py/
FROM template:base
ENV A=1 B="two words"
COPY a.txt /dest/b.txt
COPY a.txt /dest/
COPY --exclude=*.md src /dest/src
COPY --from=build /w /from
COPY <<E /dest/inline
in $A
E
WORKDIR /from
USER user
RUN cat out.txt; echo "$B" > vars
`
	b, log := f.ready(text, files, templates.Inputs{})
	for name, want := range map[string]string{
		"from/out.txt": "hello me\n", "from/py/x.py": "X", "from/py/y.py": "Y", "dest/b.txt": "A", "dest/a.txt": "A",
		"dest/src/x.py": "X", "dest/inline": "in 1\n", "from/vars": "two words\n",
	} {
		if got := f.content(b, name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if got := f.content(b, "dest/src/z.md"); !strings.HasPrefix(got, "missing") {
		t.Errorf("an excluded file was copied: %q", got)
	}
	if b.User != "user" || b.Workdir != "/from" {
		t.Errorf("defaults: got %s in %s, want user in /from", b.User, b.Workdir)
	}
	if !strings.Contains(log, "hello me") || !strings.Contains(log, "[stage 1 2/3] RUN echo") {
		t.Errorf("log:\n%s", log)
	}
	f.noMachines()
	before := len(f.machines.texts())
	_, log = f.ready(text, files, templates.Inputs{})
	if n := len(f.machines.texts()); n != before {
		t.Errorf("the second build ran %v, want everything cached", f.machines.texts()[before:])
	}
	if strings.Count(log, "CACHED") != 9 {
		t.Errorf("the second build: got %d cached steps, want the 9 of the last stage:\n%s", strings.Count(log, "CACHED"), log)
	}
	files["src/x.py"] = "changed"
	b, log = f.ready(text, files, templates.Inputs{})
	if got := f.content(b, "from/py/x.py"); got != "changed" {
		t.Errorf("after a change of the file: got %q\n%s", got, log)
	}
}

// noMachines checks that builds leave nothing. The end of a build comes before the end of
// its machines.
func (f *fixture) noMachines() {
	f.t.Helper()
	f.await("machines are destroyed", func() bool {
		left, _ := f.machines.MachinesOf(context.Background(), "")
		return len(left) == 0
	})
}

// await polls until a condition holds.
func (f *fixture) await(what string, holds func() bool) {
	f.t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			f.t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// with returns f for a test within the test.
func (f *fixture) with(t *testing.T) *fixture {
	return &fixture{Service: f.Service, t: t, machines: f.machines, store: f.store}
}

func TestFailures(t *testing.T) {
	tests := map[string]struct {
		text, step, want string
	}{
		"status":          {"FROM template:base\nRUN echo no >&2; exit 3\n", "1", "RUN echo no >&2; exit 3: exit status 3\nno"},
		"missing source":  {"FROM template:base\nRUN true\nCOPY nothing /x\n", "2", "no file matches \"nothing\""},
		"missing user":    {"FROM template:base\nUSER nobody\nRUN true\n", "2", "the image has no user \"nobody\""},
		"missing image":   {"FROM missing\n", "base", "there is no image missing"},
		"missing base":    {"FROM template:other\n", "base", "there is no template"},
		"missing secret":  {"FROM template:base\nRUN --mount=type=secret,id=s,required=true true\n", "1", "the secret s was not given"},
		"start fails":     {"FROM template:base\nCMD exit 3\nHEALTHCHECK CMD exit 1\n", "finalize", "the start command: exit status 3\ncannot bind"},
		"unknown owner":   {"FROM template:base\nCOPY --chown=who a /a\n", "1", "the image has no user \"who\""},
		"no such command": {"FROM template:base\nRUN [\"/nonexistent\"]\n", "1", "/nonexistent cannot be started"},
	}
	f := newFixture(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b, log := f.with(t).build(tt.text, map[string]string{"a": "a"}, templates.Inputs{})
			if b.Status != templates.Failed || b.Reason == nil {
				t.Fatalf("the build is %s, want error; log:\n%s", b.Status, messages(log))
			}
			if b.Reason.Step != tt.step || !strings.Contains(b.Reason.Message, tt.want) {
				t.Errorf("reason: got %q at step %q, want %q at step %q", b.Reason.Message, b.Reason.Step, tt.want, tt.step)
			}
		})
	}
	f.noMachines()
}

func TestImageSettings(t *testing.T) {
	f := newFixture(t)
	f.machines.image("oci-1", map[string]string{"bin/sh": "", "etc/passwd": "app:x:7:7::/home/app:/bin/sh\n"})
	f.machines.images["app:1"] = control.HostImage{
		Name: "oci-1", Digest: "sha256:1", Env: []string{"PATH=/bin:/usr/bin", "HOMEDIR=/srv"}, User: "app", Workdir: "/srv", Cmd: []string{"serve", "a b"},
	}
	b, log := f.ready("FROM app:1\nENV PATH=/opt:$PATH\nHEALTHCHECK CMD true\nWORKDIR $HOMEDIR/sub\n", nil, templates.Inputs{})
	if b.User != "app" || b.Workdir != "/srv/sub" {
		t.Errorf("defaults: got %s in %s, want app in /srv/sub", b.User, b.Workdir)
	}
	if len(f.machines.started) != 1 {
		t.Fatalf("started %v, want the command of the image; log:\n%s", f.machines.started, log)
	}
	e := f.machines.started[0]
	if e.User != "app" || e.Cwd != "/srv/sub" || e.Env["PATH"] != "/opt:/bin:/usr/bin" || !slices.Equal(e.Args, []string{"-c", "exec serve 'a b'"}) {
		t.Errorf("start: got %+v", e)
	}
}

// TestBindMounts runs commands with files that are there for one step.
func TestBindMounts(t *testing.T) {
	f := newFixture(t)
	files := map[string]string{"a.txt": "A", "src/x": "X", "src/d/y": "Y"}
	const text = `FROM template:base AS made
WORKDIR /out
RUN echo made > made.txt
FROM template:base
WORKDIR /w
RUN echo own > own; mkdir -p kept; echo kept > kept/k
RUN --mount=target=. cat a.txt src/x > ../seen1; test ! -e own && echo lost > new && rm a.txt
RUN --mount=type=bind,source=a.txt,target=/w/kept/a.txt --mount=type=bind,source=src,dst=kept/src cat kept/k kept/a.txt kept/src/d/y > ../seen2
RUN --mount=type=bind,from=made,source=/out,target=/w/kept cat kept/made.txt > ../seen3; test ! -e kept/k
RUN --mount=type=bind,from=made,source=out/made.txt,target=own cat own > ../seen4
`
	b, log := f.ready(text, files, templates.Inputs{})
	for name, want := range map[string]string{
		"seen1": "AX", "seen2": "kept\nAY", "seen3": "made\n", "seen4": "made\n", "w/own": "own\n", "w/kept/k": "kept\n",
	} {
		if got := f.content(b, name); got != want {
			t.Errorf("%s: got %q, want %q; log:\n%s", name, got, want, log)
		}
	}
	for _, name := range []string{"w/a.txt", "w/new", "w/kept/a.txt", "w/kept/src/x", "w/kept/made.txt"} {
		if got := f.content(b, name); !strings.HasPrefix(got, "missing") {
			t.Errorf("%s is left: %q", name, got)
		}
	}
	left, err := filepath.Glob(filepath.Join(f.machines.dir, "snapshot-"+string(b.Snapshot), "*", ".wrenn*"))
	if err != nil || len(left) > 0 {
		t.Errorf("files are left aside: %v", left)
	}
	before := len(f.machines.texts())
	if f.ready(text, files, templates.Inputs{}); len(f.machines.texts()) != before {
		t.Errorf("the second build ran %v, want everything cached", f.machines.texts()[before:])
	}
	files["src/d/y"] = "changed"
	if b, log = f.ready(text, files, templates.Inputs{}); f.content(b, "seen2") != "kept\nAchanged" {
		t.Errorf("after a change of a mounted file: got %q; log:\n%s", f.content(b, "seen2"), log)
	}
	for target, want := range map[string]string{"/": "nothing can be mounted at /", "/proc/x": "nothing can be mounted", "/x,source=none": "no file matches"} {
		b, _ := f.build("FROM template:base\nRUN --mount=type=bind,target="+target+" true\n", files, templates.Inputs{})
		if b.Status != templates.Failed || b.Reason.Step != "1" || !strings.Contains(b.Reason.Message, want) {
			t.Errorf("a mount at %s: got %s %+v, want %q", target, b.Status, b.Reason, want)
		}
	}
	f.noMachines()
}

// TestEnvironmentOfTemplates builds a template from another one, whose environment it inherits.
func TestEnvironmentOfTemplates(t *testing.T) {
	f := newFixture(t)
	f.machines.images["app:1"] = control.HostImage{Name: "base", Digest: "sha256:1", Env: []string{"PATH=/opt:/bin:/usr/bin", "KEEP=image"}}
	first, _ := f.ready("FROM app:1\nENV A=1 B='two words'\n", nil, templates.Inputs{})
	want := map[string]string{"PATH": "/opt:/bin:/usr/bin", "KEEP": "image", "A": "1", "B": "two words"}
	if diff := cmp.Diff(want, first.Env); diff != "" {
		t.Errorf("the environment of the template (-want +got):\n%s", diff)
	}
	second, log := f.ready("FROM template:t:"+string(first.ID)+"\nARG A=9\nRUN echo \"$KEEP-$B-$A\"\nENV A=$A$A C=$B\n", nil, templates.Inputs{})
	if !strings.Contains(log, "image-two words-1") {
		t.Errorf("a step of the child lacks the environment:\n%s", log)
	}
	want["A"], want["C"] = "11", "two words"
	if diff := cmp.Diff(want, second.Env); diff != "" {
		t.Errorf("the environment of the child (-want +got):\n%s", diff)
	}
	// Steps of E2B's builds.
	id := f.begin()
	p := plan.Plan{GuestUser: true, Stages: []plan.Stage{{From: plan.Base{Template: "t:" + string(second.ID)}, Steps: []plan.Step{
		{ID: "1", Text: "ENV", Env: &plan.Env{Expand: true, Set: []plan.Variable{{Name: "D", Value: "$A-$C"}}}},
	}}}}
	if err := f.Start(context.Background(), id, p, templates.Inputs{}); err != nil {
		t.Fatal(err)
	}
	third, entries := f.end(id)
	want["D"] = "11-two words"
	if diff := cmp.Diff(want, third.Env); diff != "" {
		t.Errorf("the environment of E2B's child (-want +got):\n%s\n%s", diff, messages(entries))
	}
	f.noMachines()
}

// TestEnvironmentsThatSandboxesCannotHave: a build is refused before it begins if its steps alone
// show it, and fails if the base adds too many variables.
func TestEnvironmentsThatSandboxesCannotHave(t *testing.T) {
	f := newFixture(t)
	full := control.HostImage{Name: "oci-1", Digest: "sha256:1"}
	f.machines.image("oci-1", map[string]string{"bin/sh": ""})
	text := "FROM full AS a\n"
	for i := range sandbox.MaxEnvEntries {
		full.Env = append(full.Env, fmt.Sprintf("B%d=1", i))
		if i > 0 { // PATH is one of them
			text += fmt.Sprintf("ENV V%d=1\n", i)
		}
	}
	f.machines.images["full"] = full
	f.ready("FROM full\n", nil, templates.Inputs{})
	if b, _ := f.build("FROM full\nENV MORE=1\n", nil, templates.Inputs{}); b.Status != templates.Failed || !strings.Contains(b.Reason.Message, "more than 256 variables") {
		t.Errorf("a variable beside those of the base: got %s %+v, want a failure", b.Status, b.Reason)
	}
	full.Env = append(full.Env, "MORE=1")
	f.machines.images["fuller"] = full
	if b, _ := f.build("FROM fuller\n", nil, templates.Inputs{}); b.Status != templates.Failed || !strings.Contains(b.Reason.Message, "the environment of the template") {
		t.Errorf("a base with more variables than a sandbox can have: got %s %+v, want a failure", b.Status, b.Reason)
	}
	f.ready(strings.Replace(text, "FROM full", "FROM scratch", 1), nil, templates.Inputs{})
	_, _, err := f.BuildDockerfile(context.Background(), templates.NewBuild{Name: "u"}, templates.Dockerfile{Text: text + "FROM a\nENV MORE=1\n"}, templates.Inputs{})
	if fault.ReasonOf(err) != "invalid_plan" || !strings.Contains(fault.As(err).Public, "more than 256 variables") {
		t.Errorf("more variables in two stages than a sandbox can have: %v, want invalid_plan", err)
	}
	f.noMachines()
}

// TestCommandJoinsEntrypoint starts templates of an image with ENTRYPOINT and CMD.
func TestCommandJoinsEntrypoint(t *testing.T) {
	f := newFixture(t)
	f.machines.image("oci-1", map[string]string{"bin/sh": "", "etc/passwd": "root:x:0:0::/:/bin/sh\n"})
	f.machines.images["app"] = control.HostImage{Name: "oci-1", Digest: "sha256:1", Entrypoint: []string{"/entry", "a b"}, Cmd: []string{"old"}}
	f.machines.images["plain"] = control.HostImage{Name: "oci-1", Digest: "sha256:1", Cmd: []string{"old"}}
	for text, want := range map[string]string{
		"FROM app\n":                                   "exec /entry 'a b' old",
		"FROM app\nCMD [\"new\", \"$x\"]\n":            "exec /entry 'a b' new '$x'",
		"FROM app\nCMD new $x\n":                       "exec /entry 'a b' /bin/sh -c 'new $x'",
		"FROM app\nENTRYPOINT [\"/other\"]\n":          "exec /other",
		"FROM app AS a\nCMD [\"new\"]\nFROM a\n":       "exec /entry 'a b' new",
		"FROM app\nENTRYPOINT [\"/o\"]\nCMD [\"n\"]\n": "exec /o n",
		"FROM plain\nCMD [\"new\"]\n":                  "exec new",
	} {
		f.machines.started = nil
		b, log := f.build(text+"HEALTHCHECK CMD true\n", nil, templates.Inputs{})
		if b.Status != templates.Ready || len(f.machines.started) != 1 || f.machines.started[0].Args[1] != want {
			t.Errorf("%q: got %s, started %+v, want %q; log:\n%s", text, b.Status, f.machines.started, want, messages(log))
		}
	}
	// A start command that is given stands alone.
	f.machines.started, f.machines.again = nil, nil
	d := templates.Dockerfile{Text: "FROM app\nCMD [\"new\"]\n", Start: "serve", Ready: "true"}
	if b, log := f.end(f.start(d, templates.Inputs{})); b.Status != templates.Ready || f.machines.started[0].Args[1] != "serve" {
		t.Errorf("a given start command: got %+v; log:\n%s", f.machines.started, messages(log))
	}
	// A boot of a sandbox from its disk runs both commands again.
	if a := f.machines.again; len(a) != 1 || !slices.Equal(a[0].Ready, []string{"/bin/sh", "-c", "true"}) || a[0].Timeout <= 0 {
		t.Errorf("after a boot: %+v, want a start with the ready command", a)
	}
}

// TestImageSettingsChangeLayers builds the same steps with and without the settings of the image.
func TestImageSettingsChangeLayers(t *testing.T) {
	f := newFixture(t)
	run := func(settings bool) int {
		t.Helper()
		id := f.begin()
		p := plan.Plan{ImageSettings: settings, Stages: []plan.Stage{{From: plan.Base{Template: "base"}, Steps: []plan.Step{
			{ID: "1", Text: "RUN", Run: &plan.Run{Argv: []string{"/bin/sh", "-c", "echo step"}}},
		}}}}
		if err := f.Start(context.Background(), id, p, templates.Inputs{}); err != nil {
			t.Fatal(err)
		}
		if b, log := f.end(id); b.Status != templates.Ready {
			t.Fatalf("got %+v\n%s", b, messages(log))
		}
		return strings.Count(strings.Join(f.machines.texts(), "\n"), "echo step")
	}
	for i, settings := range []bool{true, false, true} {
		if got, want := run(settings), []int{1, 2, 2}[i]; got != want {
			t.Errorf("after build %d: the step ran %d times, want %d", i+1, got, want)
		}
	}
}

func TestGuestUserPlan(t *testing.T) {
	f := newFixture(t)
	id := f.begin()
	p := plan.Plan{GuestUser: true, Ready: "true", Start: "serve", Stages: []plan.Stage{{
		From: plan.Base{Template: "base"},
		Steps: []plan.Step{
			{ID: "1", Text: "ENV", Env: &plan.Env{Set: []plan.Variable{{Name: "A", Value: "1"}, {Name: "B", Value: `$A-${A}-\$A`}}, Expand: true}},
			{ID: "2", Text: "RUN", Run: &plan.Run{Argv: []string{"/bin/sh", "-c", "echo $B"}}},
			{ID: "3", Text: "RUN", Run: &plan.Run{Argv: []string{"/bin/sh", "-c", "echo as root"}, User: "root"}},
			{ID: "4", Text: "COPY", Copy: &plan.Copy{Content: []plan.Inline{{Name: "f", Data: "x"}}, Dest: "f", CurrentUser: true}},
		},
	}}}
	if err := f.Start(context.Background(), id, p, templates.Inputs{}); err != nil {
		t.Fatal(err)
	}
	b, log := f.end(id)
	if b.Status != templates.Ready || b.User != "user" || b.Workdir != "" {
		t.Fatalf("got %+v\n%s", b, messages(log))
	}
	if !strings.Contains(messages(log), "1-1-$A") {
		t.Errorf("the environment is not expanded:\n%s", messages(log))
	}
	if got := f.machines.texts(); !slices.Contains(got, "root: /bin/sh -c echo as root") || !slices.Contains(got, "user: /bin/sh -c echo $B") {
		t.Errorf("commands: %q", got)
	}
	if got := f.content(b, "home/user/f"); got != "x" {
		t.Errorf("a relative destination: got %q", got)
	}
}

func TestSecrets(t *testing.T) {
	f := newFixture(t)
	in := templates.Inputs{Secrets: map[string][]byte{"tok": []byte("topsecret")}}
	const text = `FROM template:base
WORKDIR /w
RUN --mount=type=secret,id=tok cat ../run/secrets/tok; echo; echo done > ok
RUN --mount=type=secret,id=tok,target=/w/file,env=TOK test -h file; echo "x${TOK}y" >&2
`
	b, log := f.ready(text, nil, in)
	if strings.Contains(log, "topsecret") || !strings.Contains(log, "***") || !strings.Contains(log, "x***y") {
		t.Errorf("the log shows the secret, or nothing:\n%s", log)
	}
	dir := filepath.Join(f.machines.dir, "snapshot-"+string(b.Snapshot))
	err := filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
		if data, readErr := os.ReadFile(p); readErr == nil && bytes.Contains(data, []byte("topsecret")) {
			t.Errorf("%s holds the secret", p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := f.content(b, "w/file"); !strings.HasPrefix(got, "missing") {
		t.Errorf("the file of the secret is left: %q", got)
	}
}

// TestSecretsAreNotShared: no build starts from a layer after a step that got a secret, nor
// from one with files of such a step.
func TestSecretsAreNotShared(t *testing.T) {
	f := newFixture(t)
	const text = `FROM template:base AS private
WORKDIR /w
RUN echo before
RUN --mount=type=secret,id=tok echo with
RUN echo after
FROM template:base
RUN echo public
COPY --from=private /w /w
RUN echo last
`
	in := templates.Inputs{Secrets: map[string][]byte{"tok": []byte("topsecret")}}
	count := func(command string) (n int) {
		for _, text := range f.machines.texts() {
			if strings.HasSuffix(text, "echo "+command) {
				n++
			}
		}
		return n
	}
	for i, in := range []templates.Inputs{in, {}, in, {}} {
		f.ready(text, nil, in)
		// A build with a secret shares nothing after it. The third one leaves no layer either,
		// so that the fourth finds those of the second.
		want := []int{1, 2, 3, 3}[i]
		for command, want := range map[string]int{"public": 1, "with": want, "after": want, "last": want} {
			if got := count(command); got != want {
				t.Errorf("after build %d: \"%s\" ran %d times, want %d", i+1, command, got, want)
			}
		}
	}
}

func TestLostMachineIsTriedAgain(t *testing.T) {
	templates.SetRetryDelay(t, time.Millisecond)
	f := newFixture(t)
	f.machines.broken["fragile"] = 1
	b, log := f.ready("FROM template:base\nWORKDIR /w\nRUN sleep 1.1; echo first\nRUN echo fragile > f\n", nil, templates.Inputs{})
	if got := f.content(b, "w/f"); got != "fragile\n" {
		t.Errorf("got %q", got)
	}
	if n := strings.Count(strings.Join(f.machines.texts(), "\n"), "echo first"); n != 1 {
		t.Errorf("the first command ran %d times, want once: its layer was there\n%s", n, log)
	}
	f.machines.broken["always"] = 100
	failed, entries := f.build("FROM template:base\nRUN echo always\n", nil, templates.Inputs{})
	if failed.Status != templates.Failed || failed.Reason.Step != "" {
		t.Errorf("a build whose machines always end: got %+v\n%s", failed, messages(entries))
	}
}

func TestCancelAndSupersede(t *testing.T) {
	f := newFixture(t)
	f.machines.hold = "forever"
	start := func() templates.BuildID {
		t.Helper()
		id := f.start(templates.Dockerfile{Text: "FROM template:base\nRUN echo forever\n"}, templates.Inputs{})
		<-f.machines.held
		return id
	}
	first := start()
	second := start()
	if b, _ := f.end(first); b.Status != templates.Failed || b.Reason.Message != templates.Superseded {
		t.Errorf("the first build: got %+v, want superseded", b)
	}
	if err := f.Cancel(context.Background(), second); err != nil {
		t.Fatal(err)
	}
	if b, _ := f.end(second); b.Status != templates.Failed || !strings.Contains(b.Reason.Message, "canceled") {
		t.Errorf("the second build: got %+v, want canceled", b)
	}
	third := start()
	if err := f.Delete(context.Background(), "t"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.GetBuild(context.Background(), third); !fault.Is(err, fault.NotFound) {
		t.Errorf("the build of a deleted template: %v, want NotFound", err)
	}
	f.stop()
	f.noMachines()
}

func TestRestartContinues(t *testing.T) {
	f := newFixture(t)
	f.machines.hold = "second"
	text := "FROM template:base\nWORKDIR /w\nRUN sleep 1.1; echo first\nRUN echo second > f\n"
	id := f.start(templates.Dockerfile{Text: text, NoCache: true}, templates.Inputs{})
	<-f.machines.held
	f.stop()
	f.machines.mu.Lock()
	f.machines.hold = ""
	f.machines.mu.Unlock()
	f.run(2)
	b, log := f.end(id)
	if b.Status != templates.Ready {
		t.Fatalf("got %+v\n%s", b, messages(log))
	}
	if n := strings.Count(strings.Join(f.machines.texts(), "\n"), "echo first"); n != 1 {
		t.Errorf("the first command ran %d times, want once", n)
	}
	if !strings.Contains(messages(log), "the server was restarted; the build continues") {
		t.Errorf("log:\n%s", messages(log))
	}
}

func TestRestartWithSecretsFails(t *testing.T) {
	f := newFixture(t)
	f.machines.hold = "forever"
	in := templates.Inputs{Secrets: map[string][]byte{"a": []byte("b")}}
	id := f.start(templates.Dockerfile{Text: "FROM template:base\nRUN echo forever\n"}, in)
	<-f.machines.held
	f.stop()
	f.run(2)
	if b, _ := f.end(id); b.Status != templates.Failed || !strings.Contains(b.Reason.Message, "secrets") {
		t.Errorf("got %+v, want a failure that names the secrets", b)
	}
}

func TestBadRequests(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	if _, _, err := f.Begin(ctx, templates.NewBuild{Name: "base"}); !fault.Is(err, fault.Exists) {
		t.Errorf("the name of an image: %v, want Exists", err)
	}
	for _, n := range []templates.NewBuild{{Name: "A!"}, {Name: "t", Tags: []string{"-"}}, {Name: "t", VCPUs: 10000}, {Name: "t", MemoryMB: -1}} {
		if _, _, err := f.Begin(ctx, n); !fault.Is(err, fault.Invalid) {
			t.Errorf("Begin(%+v): %v, want Invalid", n, err)
		}
	}
	id := f.begin()
	for name, p := range map[string]plan.Plan{
		"empty":         {},
		"no base":       {Stages: []plan.Stage{{}}},
		"later stage":   {Stages: []plan.Stage{{From: plan.Base{Stage: 1}}}},
		"two bases":     {Stages: []plan.Stage{{From: plan.Base{Image: "a", Template: "b"}}}},
		"empty step":    {Stages: []plan.Stage{{From: plan.Base{Image: "a"}, Steps: []plan.Step{{}}}}},
		"empty command": {Stages: []plan.Stage{{From: plan.Base{Image: "a"}, Steps: []plan.Step{{Run: &plan.Run{}}}}}},
		"later copy":    {Stages: []plan.Stage{{From: plan.Base{Image: "a"}, Steps: []plan.Step{{Copy: &plan.Copy{Stage: 1, Sources: []string{"a"}}}}}}},
		"long timeout":  {Stages: []plan.Stage{{From: plan.Base{Image: "a"}, Steps: []plan.Step{{Run: &plan.Run{Argv: []string{"a"}, Timeout: 1e18}}}}}},
	} {
		if err := f.Start(ctx, id, p, templates.Inputs{}); fault.ReasonOf(err) != "invalid_plan" {
			t.Errorf("%s: %v, want invalid_plan", name, err)
		}
	}
	if b, err := f.GetBuild(ctx, id); err != nil || b.Status != templates.Waiting {
		t.Errorf("after refused plans: %v, %v, want waiting", b.Status, err)
	}
	for want, d := range map[string]templates.Dockerfile{
		"invalid_dockerfile": {Text: "RUN x"}, "upload_not_found": {Text: "FROM template:base", Context: "none"}, "invalid_plan": {},
	} {
		if _, _, err := f.BuildDockerfile(ctx, templates.NewBuild{Name: "bad"}, d, templates.Inputs{}); fault.ReasonOf(err) != want {
			t.Errorf("BuildDockerfile(%+v): %v, want %s", d, err, want)
		}
	}
	if _, err := f.Get(ctx, "bad"); !fault.Is(err, fault.NotFound) {
		t.Errorf("a refused build has left its template: %v", err)
	}
}

// TestHostileContexts: a context that leads outside, has damage or passes a bound ends the build
// at its step with a reason that says so, and nothing is written outside of the destination.
func TestHostileContexts(t *testing.T) {
	f := newFixture(t)
	file := func(w *tar.Writer, name, text string) {
		_ = w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))})
		_, _ = w.Write([]byte(text))
	}
	for name, c := range map[string]struct {
		write func(w *tar.Writer)
		want  string // in the reason; empty is a build that is ready
	}{
		"parent":        {func(w *tar.Writer) { file(w, "../outside", "x") }, `the name "../outside" leads outside`},
		"inner parent":  {func(w *tar.Writer) { file(w, "a/../../outside", "x") }, `leads outside`},
		"absolute":      {func(w *tar.Writer) { file(w, "/etc/outside", "x") }, ""}, // below the destination
		"hard link":     {func(w *tar.Writer) { link(w, tar.TypeLink, "x", "../../etc/passwd") }, `the hard link "x" leads outside`},
		"lost link":     {func(w *tar.Writer) { link(w, tar.TypeLink, "x", "y") }, `"x" is a hard link to "y", which is not copied`},
		"long name":     {func(w *tar.Writer) { file(w, strings.Repeat("x/", 3000)+"y", "x") }, "is too long"},
		"truncated":     {func(w *tar.Writer) { _ = w.WriteHeader(&tar.Header{Name: "x", Size: 10_000}) }, "unexpected EOF"},
		"below a link":  {func(w *tar.Writer) { link(w, tar.TypeSymlink, "x", "/etc"); file(w, "x/outside", "x") }, `"x/outside" out of the directory`},
		"relative link": {func(w *tar.Writer) { link(w, tar.TypeSymlink, "x", "../.."); file(w, "x/outside", "x") }, `"x/outside" out of the directory`},
		"replaced":      {func(w *tar.Writer) { file(w, "x", "1"); link(w, tar.TypeSymlink, "x", "/etc"); file(w, "x", "2") }, ""},
		"huge":          {func(w *tar.Writer) { _ = w.WriteHeader(&tar.Header{Name: "x", Size: 1 << 40}) }, "the files have more than"},
		"device": {func(w *tar.Writer) {
			_ = w.WriteHeader(&tar.Header{Name: "outside", Typeflag: tar.TypeBlock, Devmajor: 8})
		}, ""},
		"named pipe":     {func(w *tar.Writer) { _ = w.WriteHeader(&tar.Header{Name: "outside", Typeflag: tar.TypeFifo}) }, ""},
		"no tar":         {func(w *tar.Writer) { _, _ = w.Write(nil) }, "are no tar"},
		"broken content": {func(w *tar.Writer) { file(w, "x", strings.Repeat("x", 600)) }, "are damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			f := f.with(t)
			var b bytes.Buffer
			w := tar.NewWriter(&b)
			c.write(w)
			switch name {
			case "truncated", "huge":
			case "no tar":
				b.WriteString(strings.Repeat("text ", 1000))
			case "broken content":
				b.Truncate(600)
			default:
				_ = w.Close()
			}
			key := "bad-" + strings.ReplaceAll(name, " ", "-")
			if err := f.PutBlob(context.Background(), templates.BlobKey{Key: key}, &b); err != nil {
				t.Fatal(err)
			}
			id := f.start(templates.Dockerfile{Text: "FROM template:base\nCOPY . /dest\n", Context: key}, templates.Inputs{})
			switch got, log := f.end(id); {
			case c.want == "" && got.Status != templates.Ready:
				t.Errorf("got %s %+v, want ready\n%s", got.Status, got.Reason, messages(log))
			case c.want != "" && (got.Status != templates.Failed || got.Reason.Step != "1" || !strings.Contains(got.Reason.Message, c.want)):
				t.Errorf("got %s %+v, want a failure of step 1 with %q\n%s", got.Status, got.Reason, c.want, messages(log))
			}
		})
	}
	err := filepath.WalkDir(f.machines.dir, func(p string, e os.DirEntry, err error) error {
		if err == nil && (e.Name() == "outside" && !strings.Contains(p, "/dest/") || e.Type()&(os.ModeDevice|os.ModeNamedPipe) != 0) {
			t.Errorf("%s was written", p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestUploadReplacedDuringBuild: the holder of an upload link replaces the files after the keys
// were computed. No layer may hold them under the key of the old ones.
func TestUploadReplacedDuringBuild(t *testing.T) {
	f := newFixture(t)
	archive := func(text string) *bytes.Buffer {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		_ = w.WriteHeader(&tar.Header{Name: "a", Mode: 0o644, Size: int64(len(text))})
		_, _ = w.Write([]byte(text))
		_ = w.Close()
		return &b
	}
	key := templates.BlobKey{Key: "link"}
	put := func(text string) {
		if err := f.PutBlob(context.Background(), key, archive(text)); err != nil {
			t.Error(err)
		}
	}
	put("old")
	f.machines.before = func(text string) {
		if strings.Contains(text, "replace") {
			put("new")
		}
	}
	build := func(text string) templates.Build {
		t.Helper()
		b, _ := f.end(f.start(templates.Dockerfile{Text: text, Context: key.Key}, templates.Inputs{}))
		return b
	}
	b := build("FROM template:base\nRUN echo replace\nCOPY a /a\n")
	if b.Status != templates.Failed || b.Reason.Step != "2" || !strings.Contains(b.Reason.Message, "replaced during the build") {
		t.Errorf("got %s %+v, want a failure of step 2", b.Status, b.Reason)
	}
	put("old")
	b = build("FROM template:base\nRUN echo replace\nCOPY a /a\n")
	if b.Status != templates.Failed {
		// The first step has a layer if it took long; then nothing is replaced.
		if got := f.content(b, "a"); got != "old" {
			t.Errorf("the old files: got %q", got)
		}
	}
}

// TestEndlessListing copies from a machine whose directory has no end.
func TestEndlessListing(t *testing.T) {
	f := newFixture(t)
	n := 0
	f.machines.list = func(control.FileList) control.FilePage {
		n++
		return control.FilePage{Entries: []control.FileEntry{{Name: "x", Type: control.FileRegular}}, More: true}
	}
	b, _ := f.build("FROM template:base AS a\nRUN true\nFROM template:base\nCOPY --from=a /d/*y /d/*z /e/\n", nil, templates.Inputs{})
	if b.Status != templates.Failed || !strings.Contains(b.Reason.Message, "have to be compared with too many") {
		t.Errorf("got %s %+v, want a failure", b.Status, b.Reason)
	}
	if n > 1000 {
		t.Errorf("%d pages were read, want at most 1000", n)
	}
}

func link(w *tar.Writer, typ byte, name, target string) {
	_ = w.WriteHeader(&tar.Header{Name: name, Typeflag: typ, Linkname: target})
}

func TestAddUnpacks(t *testing.T) {
	f := newFixture(t)
	var inner bytes.Buffer
	z := gzip.NewWriter(&inner)
	w := tar.NewWriter(z)
	_ = w.WriteHeader(&tar.Header{Name: "d/f", Mode: 0o644, Size: 2})
	_, _ = w.Write([]byte("hi"))
	_, _ = w.Close(), z.Close()
	files := map[string]string{"a.tar.gz": inner.String(), "plain.txt": "text"}
	b, _ := f.ready("FROM template:base\nADD a.tar.gz plain.txt /un/\nCOPY a.tar.gz /packed/\n", files, templates.Inputs{})
	if got := f.content(b, "un/d/f"); got != "hi" {
		t.Errorf("ADD: got %q", got)
	}
	if got := f.content(b, "un/plain.txt"); got != "text" {
		t.Errorf("ADD of a file: got %q", got)
	}
	if got := f.content(b, "packed/a.tar.gz"); got != inner.String() {
		t.Errorf("COPY unpacked the archive, or lost it: %d bytes", len(got))
	}
}

func TestLogsOfLongAndOddLines(t *testing.T) {
	f := newFixture(t)
	_, log := f.ready("FROM template:base\nRUN printf 'a\\033[31mb\\rc\\n'; head -c 20000 /dev/zero | tr '\\0' x; echo; for i in $(seq 300); do echo line $i; done\n", nil, templates.Inputs{})
	if strings.Contains(log, "\033") || !strings.Contains(log, "line 300") {
		t.Errorf("the log has control characters, or lacks lines")
	}
	for line := range strings.SplitSeq(log, "\n") {
		if len(line) > templates.MaxLogMessage+20 {
			t.Errorf("a line has %d bytes", len(line))
		}
	}
}

func TestBlobs(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	key := templates.BlobKey{Key: "abc"}
	if has, err := f.HasBlob(ctx, key); err != nil || has {
		t.Fatalf("HasBlob: %v, %v, want false", has, err)
	}
	key.Digest = strings.Repeat("0", 64)
	if err := f.PutBlob(ctx, key, strings.NewReader("x")); fault.ReasonOf(err) != "digest_mismatch" {
		t.Errorf("a wrong digest: %v", err)
	}
	if has, _ := f.HasBlob(ctx, key); has {
		t.Error("an upload with a wrong digest was kept")
	}
	for _, bad := range []templates.BlobKey{{Key: ""}, {Key: "../x"}, {Key: "a/b"}, {Key: strings.Repeat("x", 129)}, {Key: "a", Template: "../t"}} {
		if err := f.PutBlob(ctx, bad, strings.NewReader("x")); !fault.Is(err, fault.Invalid) {
			t.Errorf("PutBlob(%+v): %v, want Invalid", bad, err)
		}
	}
}

func TestStartWithoutAShell(t *testing.T) {
	f := newFixture(t)
	f.machines.images["static"] = control.HostImage{Name: "oci-static", Digest: "sha256:2"}
	f.ready("FROM static\nCMD [\"/app\", \"a b\", \"$X\"]\nHEALTHCHECK CMD [\"true\"]\n", nil, templates.Inputs{})
	if len(f.machines.started) != 1 || f.machines.started[0].Cmd != "/app" || !slices.Equal(f.machines.started[0].Args, []string{"a b", "$X"}) {
		t.Errorf("started %+v, want /app itself", f.machines.started)
	}
}
