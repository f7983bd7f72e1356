package templates_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/build/dockerfile"
	"github.com/wrenn-dev/wrenn/internal/build/plan"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/templates"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// lossyStore loses answers: a hook that is set decides what the caller gets.
type lossyStore struct {
	templates.Store
	finish  func(write func() (bool, error)) (bool, error)
	start   func(write func() error) error
	orphans func(found []templates.BuildID) ([]templates.BuildID, error)
	// unreadable fails each read of a plan.
	unreadable bool
	// outage returns the error of each read of a plan; nil reads it.
	outage func(id templates.BuildID) error
	owned  func(ids []templates.BuildID) []templates.BuildID
	// read counts the builds that were read with their plans.
	read *atomic.Int32
}

func (s *lossyStore) Owned(ctx context.Context, server control.ServerID) ([]templates.BuildID, error) {
	ids, err := s.Store.Owned(ctx, server)
	if s.owned != nil && err == nil {
		ids = s.owned(ids)
	}
	return ids, err
}

func (s *lossyStore) OwnedBuild(ctx context.Context, id templates.BuildID, server control.ServerID) (templates.OwnedBuild, bool, error) {
	if s.read != nil {
		s.read.Add(1)
	}
	if s.outage != nil {
		if err := s.outage(id); err != nil {
			return templates.OwnedBuild{}, false, err
		}
	}
	if s.unreadable {
		return templates.OwnedBuild{}, false, templates.PlanUnreadable(errors.New("unexpected end of JSON input"))
	}
	return s.Store.OwnedBuild(ctx, id, server)
}

func (s *lossyStore) FinishBuild(ctx context.Context, b templates.Build, server control.ServerID) (bool, error) {
	write := func() (bool, error) { return s.Store.FinishBuild(ctx, b, server) }
	if s.finish != nil {
		return s.finish(write)
	}
	return write()
}

func (s *lossyStore) StartBuild(ctx context.Context, id templates.BuildID, p plan.Plan, server control.ServerID, has bool) (b templates.Build, old []templates.BuildID, err error) {
	write := func() error {
		b, old, err = s.Store.StartBuild(ctx, id, p, server, has)
		return err
	}
	if s.start != nil {
		return templates.Build{}, nil, s.start(write)
	}
	return b, old, write()
}

func (s *lossyStore) Orphans(ctx context.Context, server control.ServerID) ([]templates.BuildID, error) {
	found, err := s.Store.Orphans(ctx, server)
	if s.orphans != nil && err == nil {
		return s.orphans(found)
	}
	return found, err
}

// lossy starts a server whose store is changed by set.
func lossy(t *testing.T, set func(*lossyStore)) *fixture {
	t.Helper()
	templates.SetRetryDelay(t, time.Millisecond)
	templates.SetMaintainInterval(t, 5*time.Millisecond)
	f := unstarted(t)
	f.wrap = func(s templates.Store) templates.Store {
		lossy := &lossyStore{Store: s}
		set(lossy)
		return lossy
	}
	f.run(1)
	return f
}

var errLost = fault.New(fault.Unavailable, "database_unavailable", "the connection was lost")

// TestLostAnswerOfTheEnd: a template whose end was written keeps its snapshot although the
// answer was lost, and an end that was not written is written again.
func TestLostAnswerOfTheEnd(t *testing.T) {
	for name, written := range map[string]bool{"written": true, "not written": false} {
		t.Run(name, func(t *testing.T) {
			var lost atomic.Bool
			f := lossy(t, func(s *lossyStore) {
				s.finish = func(write func() (bool, error)) (bool, error) {
					if lost.Swap(true) {
						return write()
					}
					if written {
						if _, err := write(); err != nil {
							return false, err
						}
					}
					return false, errLost
				}
			})
			b, _ := f.ready("FROM template:base\nRUN echo one\n", nil, templates.Inputs{})
			f.noMachines()
			if _, err := f.machines.GetKept(context.Background(), b.Snapshot); err != nil {
				t.Errorf("the snapshot of a ready template: %v, want it kept", err)
			}
		})
	}
}

// TestEndThatIsOvertaken: the snapshot of a build that was canceled before its end is dropped.
func TestEndThatIsOvertaken(t *testing.T) {
	f := lossy(t, func(s *lossyStore) {
		s.finish = func(write func() (bool, error)) (bool, error) {
			list, err := s.Store.Owned(context.Background(), 1)
			if err != nil || len(list) != 1 {
				return false, err
			}
			if _, err := s.Store.FailBuild(context.Background(), list[0], 0, templates.Reason{Message: "canceled"}); err != nil {
				return false, err
			}
			return write()
		}
	})
	b, _ := f.build("FROM template:base\nRUN echo one\n", nil, templates.Inputs{})
	if b.Status != templates.Failed {
		t.Fatalf("got %s, want error", b.Status)
	}
	f.await("the snapshot is dropped", func() bool {
		f.machines.mu.Lock()
		defer f.machines.mu.Unlock()
		for _, s := range f.machines.snapshots {
			if s.Kind == control.KindTemplate {
				return false
			}
		}
		return true
	})
}

// TestLostAnswerOfTheStart: a build that the store has started is carried out with its
// secrets, although the answer was lost.
func TestLostAnswerOfTheStart(t *testing.T) {
	f := lossy(t, func(s *lossyStore) {
		s.start = func(write func() error) error {
			if err := write(); err != nil {
				return err
			}
			return errLost
		}
	})
	in := templates.Inputs{Secrets: map[string][]byte{"tok": []byte("topsecret")}}
	f.ready("FROM template:base\nRUN --mount=type=secret,id=tok,required=true true\n", nil, in)
}

// TestAbandonedRowIsCarriedOn: a build that is Building under a server which knows nothing of
// it is carried on.
func TestAbandonedRowIsCarriedOn(t *testing.T) {
	templates.SetMaintainInterval(t, 5*time.Millisecond)
	f := newFixture(t)
	id := f.begin()
	p := plan.Plan{Stages: []plan.Stage{{From: plan.Base{Template: "base"}}}}
	if _, _, err := f.store.Templates().StartBuild(context.Background(), id, p, 1, false); err != nil {
		t.Fatal(err)
	}
	b, log := f.end(id)
	if b.Status != templates.Ready || !strings.Contains(messages(log), "the build continues") {
		t.Errorf("got %+v\n%s", b, messages(log))
	}
}

// TestEndDuringALookForBuilds: a build that ends after the maintenance has listed it is not
// carried on.
func TestEndDuringALookForBuilds(t *testing.T) {
	for name, in := range map[string]templates.Inputs{
		"plain": {}, "secrets": {Secrets: map[string][]byte{"tok": []byte("topsecret")}},
	} {
		t.Run(name, func(t *testing.T) {
			var ended atomic.Pointer[templates.BuildID]
			var looks atomic.Int32
			f := lossy(t, func(s *lossyStore) {
				s.owned = func(ids []templates.BuildID) []templates.BuildID {
					if id := ended.Load(); id != nil {
						looks.Add(1)
						ids = append(ids, *id)
					}
					return ids
				}
			})
			b, log := f.ready("FROM template:base\nRUN echo one\n", nil, in)
			f.noMachines()
			ended.Store(&b.ID)
			f.await("the maintenance has looked three times", func() bool { return looks.Load() > 3 })
			after, entries := f.end(b.ID)
			if after.Status != templates.Ready || messages(entries) != log {
				t.Errorf("after the look: %+v\n%s\nwant the log as it was:\n%s", after, messages(entries), log)
			}
		})
	}
}

// TestClaimDuringALookForBuilds: the machines of a build are left alone if the build is no longer
// one of this server when its turn comes after a look.
func TestClaimDuringALookForBuilds(t *testing.T) {
	var claimed atomic.Pointer[templates.BuildID]
	var looks atomic.Int32
	f := lossy(t, func(s *lossyStore) {
		s.owned = func(ids []templates.BuildID) []templates.BuildID {
			// Each look lists the build; the question after it finds that it is another server's.
			if id := claimed.Load(); id != nil && looks.Add(1)%2 == 1 {
				ids = append(ids, *id)
			}
			return ids
		}
	})
	id := f.begin()
	m, err := f.machines.CreateMachine(context.Background(), control.NewMachine{ID: sandbox.NewID(), Build: string(id), Image: "base"})
	if err != nil {
		t.Fatal(err)
	}
	claimed.Store(&id)
	f.await("the maintenance has looked three times", func() bool { return looks.Load() > 6 })
	left, err := f.machines.MachinesOf(context.Background(), string(id))
	if err != nil || len(left) != 1 || left[0].ID != m.ID {
		t.Errorf("the machines of the other server's build: %v, %v; want %s", left, err, m.ID)
	}
	if err := f.machines.Destroy(context.Background(), m.ID); err != nil {
		t.Fatal(err)
	}
}

// TestLooksReadNoPlans: the maintenance does not read the plans of the builds that are here.
func TestLooksReadNoPlans(t *testing.T) {
	var looks, read atomic.Int32
	f := lossy(t, func(s *lossyStore) {
		s.read = &read
		s.owned = func(ids []templates.BuildID) []templates.BuildID {
			if len(ids) == 1 {
				looks.Add(1)
			}
			return ids
		}
	})
	id := f.held()
	read.Store(0) // the build itself has read its plan
	f.await("the maintenance has looked three times", func() bool { return looks.Load() > 3 })
	if n := read.Load(); n != 0 {
		t.Errorf("%d plans were read, want 0", n)
	}
	if err := f.Cancel(context.Background(), id); err != nil {
		t.Fatal(err)
	}
	f.noMachines()
}

// TestBuildThatNeverEndsFails: a build whose end cannot be written is not carried on for ever.
func TestBuildThatNeverEndsFails(t *testing.T) {
	var panics atomic.Int32
	f := lossy(t, func(s *lossyStore) {
		s.finish = func(func() (bool, error)) (bool, error) {
			panics.Add(1)
			panic("a defect")
		}
	})
	b, log := f.end(f.start(templates.Dockerfile{Text: "FROM template:base\n"}, templates.Inputs{}))
	if b.Status != templates.Failed || panics.Load() != 1+templates.MaxResumes {
		t.Errorf("got %+v after %d panics, want a failure after %d\n%s", b, panics.Load(), 1+templates.MaxResumes, messages(log))
	}
}

// TestAdoptedInPart: builds that were claimed before an error of the store are carried on.
func TestAdoptedInPart(t *testing.T) {
	for name, lost := range map[string]int{"answered": 0, "not answered": 1} {
		t.Run(name, func(t *testing.T) {
			templates.SetMaintainInterval(t, 5*time.Millisecond)
			f := unstarted(t)
			f.run(1)
			id := f.held()
			f.stop()
			f.machines.set(func() { f.machines.hold = "" })
			f.wrap = func(s templates.Store) templates.Store {
				return &lossyStore{Store: s, orphans: func(found []templates.BuildID) ([]templates.BuildID, error) {
					return found[:len(found)-min(lost, len(found))], errLost
				}}
			}
			f.run(2)
			if b, log := f.end(id); b.Status != templates.Ready {
				t.Errorf("got %+v\n%s", b, messages(log))
			}
		})
	}
}

// TestClaimedBuildEndsHere: a server whose build another one has claimed ends it without a
// change of its row.
func TestClaimedBuildEndsHere(t *testing.T) {
	templates.SetMaintainInterval(t, 5*time.Millisecond)
	f := newFixture(t)
	id := f.held()
	// The server 2 lives and does nothing, so that the row stays as it is.
	claimed := f.claim(id)
	f.noMachines()
	b, err := f.GetBuild(context.Background(), id)
	if err != nil || b.Status != templates.Building || !b.UpdatedAt.Equal(claimed.UpdatedAt) {
		t.Errorf("got %+v, %v, want the row as the claim left it: %+v", b, err, claimed)
	}
}

// TestUnreachableLayerIsKept: a build skips a layer whose host does not answer, and a later one
// finds it again.
func TestUnreachableLayerIsKept(t *testing.T) {
	f := newFixture(t)
	const begin = "FROM template:base\nRUN sleep 1.1; echo one\n"
	f.ready(begin+"RUN echo two\n", nil, templates.Inputs{})
	up := control.HostInfo{ID: "other", Reachable: true, Templates: []string{"base"}}
	f.machines.set(func() {
		f.machines.hosts = []control.HostInfo{{ID: "h", Templates: []string{"base"}, SeenAt: time.Now()}, up}
		f.machines.hold = "echo one"
	})
	// A build that ends here has no layer that takes the place of the other one.
	id := f.start(templates.Dockerfile{Text: begin + "RUN echo three\n"}, templates.Inputs{})
	<-f.machines.held
	if err := f.Cancel(context.Background(), id); err != nil {
		t.Fatal(err)
	}
	f.end(id)
	f.machines.set(func() { f.machines.hosts[0].Reachable, f.machines.hold = true, "" })
	ran := len(f.machines.texts())
	f.ready(begin+"RUN echo three\n", nil, templates.Inputs{})
	if got := f.machines.texts()[ran:]; len(got) != 1 || !strings.HasSuffix(got[0], "echo three") {
		t.Errorf("ran %q, want the first step from its layer", got)
	}
}

// TestAnotherImageIsNotCached: layers on an image of the hosts do not outlive it.
func TestAnotherImageIsNotCached(t *testing.T) {
	f := newFixture(t)
	digest := func(d ...string) {
		f.machines.set(func() {
			f.machines.hosts = nil
			for i, d := range d {
				f.machines.hosts = append(f.machines.hosts, control.HostInfo{
					ID: "h" + string(rune('0'+i)), Reachable: true, Templates: []string{"other", "base"}, TemplateDigests: []string{"x", d},
				})
			}
		})
	}
	hostOf := func() string {
		f.machines.mu.Lock()
		defer f.machines.mu.Unlock()
		for _, m := range f.machines.creates {
			if m.Image == "base" {
				return m.HostID
			}
		}
		return "none"
	}
	for i, step := range []struct {
		digests []string
		runs    int
		host    string
	}{
		{[]string{"a"}, 1, ""}, {[]string{"b"}, 1, ""},
		// The layers of another host's image are not those of this one's.
		{[]string{"c", "d"}, 1, "h0"}, {[]string{"c", "c"}, 0, ""},
	} {
		digest(step.digests...)
		f.machines.set(func() { f.machines.creates = nil })
		before := len(f.machines.texts())
		f.machines.set(func() {
			for id, s := range f.machines.snapshots { // as if h0 had them
				s.HostID = "h0"
				f.machines.snapshots[id] = s
			}
		})
		f.ready("FROM template:base\nRUN echo one\n", nil, templates.Inputs{})
		if n := len(f.machines.texts()) - before; n != step.runs {
			t.Errorf("build %d on images %v: ran %d commands, want %d", i+1, step.digests, n, step.runs)
		}
		if host := hostOf(); step.runs > 0 && host != step.host {
			t.Errorf("build %d on images %v: machine on %q, want %q", i+1, step.digests, host, step.host)
		}
	}
}

// TestMachinesAreKeptAlive: the destination of a COPY --from is touched while its source is
// built.
func TestMachinesAreKeptAlive(t *testing.T) {
	templates.SetTouchInterval(t, time.Millisecond)
	f := newFixture(t)
	f.machines.hold = "long"
	id := f.start(templates.Dockerfile{Text: "FROM template:base AS a\nRUN echo long\nFROM template:base\nRUN echo short\nCOPY --from=a /etc /x\n"}, templates.Inputs{})
	<-f.machines.held
	f.await("both machines are touched", func() bool {
		f.machines.mu.Lock()
		defer f.machines.mu.Unlock()
		touched := 0
		for id := range f.machines.machines {
			if f.machines.touches[id] > 2 {
				touched++
			}
		}
		return touched == 2
	})
	if err := f.Cancel(context.Background(), id); err != nil {
		t.Fatal(err)
	}
	f.noMachines()
}

// TestSizesAreThoseOfTheBase: a template has the sizes that were asked for, or those of the
// snapshot that is its base. Other stages and sources of COPY have sizes of their own.
func TestSizesAreThoseOfTheBase(t *testing.T) {
	f := newFixture(t)
	build := func(name, text string, cpus int) templates.Template {
		t.Helper()
		_, b, err := f.BuildDockerfile(context.Background(), templates.NewBuild{Name: name, VCPUs: cpus, MemoryMB: 512 * cpus, DiskMB: 1024 * cpus},
			templates.Dockerfile{Text: text}, templates.Inputs{})
		if err != nil {
			t.Fatal(err)
		}
		if b, log := f.end(b.ID); b.Status != templates.Ready || b.MemoryMB != 512*b.VCPUs || b.DiskMB != 1024*b.VCPUs {
			t.Fatalf("got %+v\n%s", b, messages(log))
		}
		tmpl, err := f.Get(context.Background(), name)
		if err != nil {
			t.Fatal(err)
		}
		return tmpl
	}
	for _, c := range []struct {
		name, text string
		cpus, want int
	}{
		{"big", "FROM template:base\nRUN echo big\n", 4, 4},
		{"copies", "FROM template:base\nRUN true\nCOPY --from=template:big /etc /x\n", 1, 1},
		{"stages", "FROM template:big AS a\nRUN true\nFROM template:base\nCOPY --from=a /etc /y\n", 2, 2},
		{"child", "FROM template:big\nRUN echo child\n", 1, 4},
	} {
		if got := build(c.name, c.text, c.cpus); got.VCPUs != c.want || got.MemoryMB != 512*c.want || got.DiskMB != 1024*c.want {
			t.Errorf("%s: got %d vCPUs, %d MB and %d MB disk, want those of %d", c.name, got.VCPUs, got.MemoryMB, got.DiskMB, c.want)
		}
	}
}

// TestBuildWaitsForHosts: while no host has reported, a build waits and a new one is refused.
func TestBuildWaitsForHosts(t *testing.T) {
	templates.SetRetryDelay(t, time.Millisecond)
	f := newFixture(t)
	id := f.begin()
	known := f.machines.hosts
	f.machines.set(func() { f.machines.hosts = []control.HostInfo{{ID: "h"}} })
	p := plan.Plan{Stages: []plan.Stage{{From: plan.Base{Template: "base"}}}}
	if err := f.Start(context.Background(), id, p, templates.Inputs{}); err != nil {
		t.Fatal(err)
	}
	f.await("the build waits", func() bool {
		log, err := f.Logs(context.Background(), id, 0, 100)
		return err == nil && strings.Count(messages(log), "FROM template base") > 5
	})
	if _, _, err := f.Begin(context.Background(), templates.NewBuild{Name: "base"}); fault.ReasonOf(err) != "host_unreachable" {
		t.Errorf("a build before a host has reported: %v, want host_unreachable", err)
	}
	f.machines.set(func() { f.machines.hosts = known })
	if b, log := f.end(id); b.Status != templates.Ready {
		t.Errorf("got %+v\n%s", b, messages(log))
	}
}

// TestFaultsOfOursInCopyAreTriedAgain: a source of COPY --from that cannot be made does not end
// the build.
func TestFaultsOfOursInCopyAreTriedAgain(t *testing.T) {
	templates.SetRetryDelay(t, time.Millisecond)
	for name, refusal := range map[string]error{
		"snapshot gone": fault.New(fault.NotFound, "snapshot_not_found", "no snapshot"),
		"not supported": fault.New(fault.Unsupported, "egress_unsupported", "an old agent"),
		"host full":     fault.New(fault.NoCapacity, "no_capacity", "no room"),
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.machines.images["tools"] = control.HostImage{Name: "oci-tools", Digest: "sha256:3"}
			f.machines.image("oci-tools", map[string]string{"tool": "T"})
			failures := 2
			f.machines.fail = func(m control.NewMachine) (bool, error) {
				if m.Image != "oci-tools" || failures == 0 {
					return false, nil
				}
				failures--
				return false, refusal
			}
			b, log := f.ready("FROM template:base\nCOPY --from=tools /tool /t\n", nil, templates.Inputs{})
			if got := f.content(b, "t"); got != "T" {
				t.Errorf("got %q\n%s", got, log)
			}
		})
	}
}

// TestCreateWithUnknownOutcome: a machine whose create had no answer is destroyed.
func TestCreateWithUnknownOutcome(t *testing.T) {
	templates.SetRetryDelay(t, time.Millisecond)
	f := newFixture(t)
	f.machines.fail = func(control.NewMachine) (bool, error) {
		f.machines.fail = nil
		return true, fault.New(fault.HostFailed, "outcome_unknown", "no answer")
	}
	id := f.held()
	if left, _ := f.machines.MachinesOf(context.Background(), string(id)); len(left) != 1 {
		t.Errorf("%d machines in the second attempt, want 1", len(left))
	}
	if err := f.Cancel(context.Background(), id); err != nil {
		t.Fatal(err)
	}
	f.noMachines()
}

// TestFollowEndsWithTheBuild: a reader of the log does not wait for the end of the machines.
func TestFollowEndsWithTheBuild(t *testing.T) {
	f := newFixture(t)
	release := make(chan struct{})
	f.machines.set(func() { f.machines.destroying = release })
	_, log := f.ready("FROM template:base\nRUN echo one\n", nil, templates.Inputs{})
	if !strings.Contains(log, "the template is ready") {
		t.Errorf("the log is not complete:\n%s", log)
	}
	if left, _ := f.machines.MachinesOf(context.Background(), ""); len(left) == 0 {
		t.Error("no machine is left, so that the test shows nothing")
	}
	close(release)
	f.noMachines()
}

// TestImportedImagesHaveNoName: nobody can name an image that the credentials of another
// caller have imported.
func TestImportedImagesHaveNoName(t *testing.T) {
	f := newFixture(t)
	f.machines.set(func() { f.machines.hosts[0].Templates = []string{"base", "oci-secret"} })
	f.machines.image("oci-secret", map[string]string{"f": "x"})
	for name, text := range map[string]string{
		"base": "FROM template:oci-secret\n", "tagged": "FROM template:oci-secret:default\n", "namespace": "FROM template:a/oci-secret\n",
		"copy": "FROM template:base\nCOPY --from=template:oci-secret /f /f\n",
	} {
		b, log := f.build(text, nil, templates.Inputs{})
		if b.Status != templates.Failed || !strings.Contains(b.Reason.Message, "imported image") {
			t.Errorf("%s: got %+v %+v, want a failure that names the prefix\n%s", name, b, b.Reason, messages(log))
		}
	}
	if _, _, err := f.Begin(context.Background(), templates.NewBuild{Name: "oci-mine"}); !fault.Is(err, fault.Invalid) {
		t.Errorf("a template called oci-mine: %v, want Invalid", err)
	}
}

// held starts a build and returns its id when it is held at its first step, for as long as
// machines.hold is not changed.
func (f *fixture) held() templates.BuildID {
	f.t.Helper()
	f.machines.set(func() { f.machines.hold = "wait" })
	id := f.start(templates.Dockerfile{Text: "FROM template:base\nRUN echo wait\n"}, templates.Inputs{})
	<-f.machines.held
	return id
}

// claim makes the server 2 the one of a build, as if the session of server 1 had been lost.
func (f *fixture) claim(id templates.BuildID) templates.Build {
	f.t.Helper()
	f.endSession()
	ctx, cancel := context.WithCancel(context.Background())
	live, ended := make(chan struct{}), make(chan struct{})
	go func() { defer close(ended); _ = f.store.HoldServer(ctx, 2, func() { close(live) }) }()
	f.t.Cleanup(func() { cancel(); <-ended })
	<-live
	claimed, err := f.store.Templates().Orphans(context.Background(), 2)
	if err != nil || len(claimed) != 1 || claimed[0] != id {
		f.t.Fatalf("claimed %+v, %v, want the build %s", claimed, err, id)
	}
	b, err := f.GetBuild(context.Background(), id)
	if err != nil {
		f.t.Fatal(err)
	}
	return b
}

// TestStepTimeout: each RUN has the limit that was asked for, which is no part of the cache.
func TestStepTimeout(t *testing.T) {
	f := newFixture(t)
	d := templates.Dockerfile{Text: "FROM template:base\nRUN echo one\nRUN echo two\n", StepTimeout: 90 * time.Second}
	for _, d.StepTimeout = range []time.Duration{90 * time.Second, time.Hour} {
		if b, log := f.end(f.start(d, templates.Inputs{})); b.Status != templates.Ready {
			t.Fatalf("got %+v\n%s", b, messages(log))
		}
	}
	if got, want := f.machines.timeouts, []time.Duration{90 * time.Second, 90 * time.Second}; !slices.Equal(got, want) {
		t.Errorf("the limits of commands: got %v, want %v and nothing in the second build", got, want)
	}
	d.StepTimeout = plan.MaxStepTimeout + time.Second
	if _, _, err := f.BuildDockerfile(context.Background(), templates.NewBuild{Name: "t"}, d, templates.Inputs{}); fault.ReasonOf(err) != "invalid_plan" {
		t.Errorf("a limit of %s: %v, want invalid_plan", d.StepTimeout, err)
	}
}

// TestTagsOfARequestAreBounded: as many tags as the document of the API says, for each operation.
func TestTagsOfARequestAreBounded(t *testing.T) {
	f := newFixture(t)
	b, _ := f.ready("FROM template:base\n", nil, templates.Inputs{})
	var tags []string
	for i := range templates.MaxBuildTags {
		tags = append(tags, fmt.Sprintf("t%d", i))
	}
	more := append(slices.Clone(tags), "more")
	ctx := context.Background()
	begin := func(tags []string) error {
		_, _, err := f.Begin(ctx, templates.NewBuild{Name: "t", Tags: tags})
		return err
	}
	set := func(tags []string) error { _, err := f.SetTags(ctx, "t:"+string(b.ID), tags); return err }
	remove := func(tags []string) error { return f.RemoveTags(ctx, "t", tags) }
	for _, c := range []struct {
		name string
		call func([]string) error
	}{{"Begin", begin}, {"SetTags", set}, {"RemoveTags", remove}} {
		if err := c.call(more); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s with %d tags: %v, want Invalid", c.name, len(more), err)
		}
		if err := c.call(tags); err != nil {
			t.Errorf("%s with %d tags: %v", c.name, len(tags), err)
		}
	}
}

// TestWaitForHostsEnds: a build does not wait for hosts for ever.
func TestWaitForHostsEnds(t *testing.T) {
	templates.SetRetryDelay(t, time.Millisecond)
	templates.SetHostWait(t, 20*time.Millisecond)
	f := newFixture(t)
	id := f.begin()
	f.machines.set(func() { f.machines.hosts = nil })
	p := plan.Plan{Stages: []plan.Stage{{From: plan.Base{Template: "base"}}}}
	if err := f.Start(context.Background(), id, p, templates.Inputs{}); err != nil {
		t.Fatal(err)
	}
	if b, log := f.end(id); b.Status != templates.Failed || !strings.Contains(b.Reason.Message, "no host has reported") {
		t.Errorf("got %+v %+v, want a failure that names the hosts\n%s", b, b.Reason, messages(log))
	}
}

// unreachable is the error of a create while a host does not answer.
var unreachable = fault.New(fault.HostFailed, "host_unreachable", "the host does not answer")

// TestOutagesBetweenSteps: a build survives any number of outages if it finishes a step between
// two of them, and its log tells of each one.
func TestOutagesBetweenSteps(t *testing.T) {
	templates.SetRetryDelay(t, time.Millisecond)
	templates.SetHostWait(t, 0) // each attempt lasts longer
	const stages = 5
	text, copies := "", ""
	for i := range stages {
		text += fmt.Sprintf("FROM template:base AS s%d\nRUN echo %d\n", i, i)
		copies += fmt.Sprintf("COPY --from=s%d /etc/passwd /p%d\n", i, i)
	}
	f := newFixture(t)
	fresh := 0
	f.machines.fail = func(m control.NewMachine) (bool, error) {
		if m.Image == "" {
			return false, nil // from the layer of a stage
		}
		// The last stage, a source whose create fails, and both again in the next attempt.
		if fresh++; fresh%3 == 2 {
			return false, unreachable
		}
		return false, nil
	}
	_, log := f.ready(text+"FROM template:base\n"+copies, nil, templates.Inputs{})
	if n := strings.Count(log, "the host does not answer; the build is tried again"); n != stages {
		t.Errorf("%d outages in the log, want %d:\n%s", n, stages, log)
	}
}

// TestLongAttemptsAreCounted: a build whose host is lost in each long attempt is tried as often as
// one that another error stops.
func TestLongAttemptsAreCounted(t *testing.T) {
	templates.SetRetryDelay(t, time.Millisecond)
	templates.SetHostWait(t, 0) // each attempt lasts longer
	f := newFixture(t)
	f.machines.fail = func(control.NewMachine) (bool, error) { return false, unreachable }
	b, log := f.build("FROM template:base\nRUN echo one\n", nil, templates.Inputs{})
	if n := len(f.machines.creates); b.Status != templates.Failed || n != templates.MaxAttempts {
		t.Errorf("got %s after %d attempts, want a failure after %d\n%s", b.Status, n, templates.MaxAttempts, messages(log))
	}
}

// TestImportTellsItsProgress: followers see how far the import of a base image is while it
// lasts.
func TestImportTellsItsProgress(t *testing.T) {
	f := newFixture(t)
	f.machines.images["app:1"] = control.HostImage{Name: "oci-1", Digest: "sha256:1"}
	f.machines.image("oci-1", map[string]string{"bin/sh": ""})
	importing := make(chan struct{})
	f.machines.set(func() { f.machines.importing = importing })
	id := f.start(templates.Dockerfile{Text: "FROM app:1\n"}, templates.Inputs{})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var seen *templates.Import
	b, err := f.Follow(ctx, id, 0, func(_ templates.LogEntry, b templates.Build) error {
		if b.Import != nil && seen == nil {
			seen = b.Import
			close(importing)
		}
		return nil
	})
	if err != nil || b.Status != templates.Ready || b.Import != nil {
		t.Errorf("got %+v, %v, want a ready build without an import", b, err)
	}
	if want := (templates.Import{Detail: "pull app [2J", Done: 1, Total: 2}); seen == nil || *seen != want {
		t.Errorf("the import: got %+v, want %+v", seen, want)
	}
}

// TestUnreadablePlanEndsTheBuild: a build whose stored plan does not decode fails with a reason.
func TestUnreadablePlanEndsTheBuild(t *testing.T) {
	f := lossy(t, func(s *lossyStore) { s.unreadable = true })
	id := f.begin()
	if _, _, err := f.store.Templates().StartBuild(context.Background(), id, plan.Plan{}, 1, false); err != nil {
		t.Fatal(err)
	}
	b, log := f.end(id)
	if b.Status != templates.Failed || !strings.Contains(b.Reason.Message, "plan") || !strings.Contains(messages(log), "plan") {
		t.Errorf("got %+v %+v, want a failure that names the plan\n%s", b, b.Reason, messages(log))
	}
}

// TestOutageBeforeTheTurnHoldsNoSlot: builds whose plans the store does not return keep no other
// build from its turn. They are carried out with their secrets when it answers again, and not by a
// server that has lost them meanwhile.
func TestOutageBeforeTheTurnHoldsNoSlot(t *testing.T) {
	var lost sync.Map // ids of the builds that the store does not return
	var reads atomic.Int32
	f := lossy(t, func(s *lossyStore) {
		s.outage = func(id templates.BuildID) error {
			if _, out := lost.Load(id); out {
				reads.Add(1)
				return errLost
			}
			return nil
		}
	})
	const text = "FROM template:base\nRUN --mount=type=secret,id=tok,required=true true\n"
	in := templates.Inputs{Secrets: map[string][]byte{"tok": []byte("topsecret")}}
	begin := func(name string, out bool) templates.BuildID {
		t.Helper()
		_, b, err := f.Begin(context.Background(), templates.NewBuild{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		if out {
			lost.Store(b.ID, true)
		}
		p, err := dockerfile.Parse(text, dockerfile.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Start(context.Background(), b.ID, p, in); err != nil {
			t.Fatal(err)
		}
		return b.ID
	}
	waiting := []templates.BuildID{begin("a", true), begin("b", true), begin("c", true)} // more than there are slots
	f.await("each of them has been tried", func() bool { return reads.Load() > 10 })
	if b, log := f.end(begin("d", false)); b.Status != templates.Ready {
		t.Fatalf("a build beside those that wait: got %+v\n%s", b, messages(log))
	}
	if won, err := f.store.Templates().FailBuild(context.Background(), waiting[2], 0, templates.Reason{Message: "ended elsewhere"}); err != nil || !won {
		t.Fatal(won, err)
	}
	lost.Clear()
	for _, id := range waiting[:2] {
		if b, log := f.end(id); b.Status != templates.Ready {
			t.Errorf("a build after the outage: got %+v %+v\n%s", b, b.Reason, messages(log))
		}
	}
	if b, log := f.end(waiting[2]); b.Status != templates.Failed || strings.Contains(messages(log), "RUN") {
		t.Errorf("a build that ended during the outage: got %+v\n%s", b, messages(log))
	}
}

// TestRefusedReadEndsTheBuild: a build whose plan the store refuses to read, which is no outage,
// fails after some tries.
func TestRefusedReadEndsTheBuild(t *testing.T) {
	var reads atomic.Int32
	f := lossy(t, func(s *lossyStore) {
		s.outage = func(templates.BuildID) error {
			reads.Add(1)
			return fault.New(fault.Internal, "database_error", "an internal error")
		}
	})
	b, log := f.build("FROM template:base\n", nil, templates.Inputs{})
	if n := reads.Load(); b.Status != templates.Failed || n != templates.MaxAttempts {
		t.Errorf("got %s after %d reads, want a failure after %d\n%s", b.Status, n, templates.MaxAttempts, messages(log))
	}
}

// TestForeignEndHasItsReason: the log of a build that another server has ended has the reason of
// that end.
func TestForeignEndHasItsReason(t *testing.T) {
	templates.SetMaintainInterval(t, 5*time.Millisecond)
	f := newFixture(t)
	id := f.held()
	if won, err := f.store.Templates().FailBuild(context.Background(), id, 0, templates.Reason{Message: templates.Superseded}); err != nil || !won {
		t.Fatal(won, err)
	}
	if _, log := f.end(id); !strings.Contains(messages(log), templates.Superseded) || strings.Contains(messages(log), "canceled") {
		t.Errorf("the log has not the reason %q:\n%s", templates.Superseded, messages(log))
	}
}

// TestRefusedDestroyIsRepeated: the next attempt of a build destroys a machine whose destruction
// has failed in an earlier one.
func TestRefusedDestroyIsRepeated(t *testing.T) {
	templates.SetRetryDelay(t, time.Millisecond)
	templates.SetMaintainInterval(t, time.Hour)
	f := newFixture(t)
	var failed, refused atomic.Bool
	f.machines.fail = func(control.NewMachine) (bool, error) {
		if failed.Swap(true) {
			return true, nil
		}
		return true, fault.New(fault.HostFailed, "host_failed", "the host failed")
	}
	f.machines.refuse = func() bool { return !refused.Swap(true) }
	f.ready("FROM template:base\nRUN echo one\n", nil, templates.Inputs{})
	if !refused.Load() {
		t.Fatal("no destruction was refused, so that the test shows nothing")
	}
	f.noMachines()
}
