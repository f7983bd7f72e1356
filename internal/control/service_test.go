package control_test

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/postgres/pgtest"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// bundle is a control plane with a real database and a fake host.
type bundle struct {
	*control.Service
	t     *testing.T
	host  *fakeHost
	store *movesStore
	// pass reconciles the host once.
	pass func(context.Context) error
}

// movesStore tells of each move that was won, and can die before one.
type movesStore struct {
	control.Store
	moves chan control.Move
	// gets tells of each row that was read by its id.
	gets chan sandbox.ID
	// dead is the state to which no row can be moved.
	dead sandbox.State
	// onGet is called after the next row was read by its id, in the caller.
	onGet func()
	// onUnended is called before the rows of a host are read the next time,
	// afterUnended after it, and afterSnapshots after its snapshots' rows are read.
	onUnended, afterUnended, afterSnapshots func()
}

// take returns the hook in at and clears it. It is never nil.
func take(at *func()) func() {
	f := *at
	*at = nil
	if f == nil {
		return func() {}
	}
	return f
}

func (s *movesStore) Unended(ctx context.Context, hostID string) ([]control.Sandbox, error) {
	take(&s.onUnended)()
	defer take(&s.afterUnended)()
	return s.Store.Unended(ctx, hostID)
}

func (s *movesStore) SnapshotsOf(ctx context.Context, hostID string) ([]control.Snapshot, error) {
	defer take(&s.afterSnapshots)()
	return s.Store.SnapshotsOf(ctx, hostID)
}

func (s *movesStore) Get(ctx context.Context, id sandbox.ID) (control.Sandbox, error) {
	row, err := s.Store.Get(ctx, id)
	if f := s.onGet; f != nil {
		s.onGet = nil
		f()
	}
	select {
	case s.gets <- id:
	default:
	}
	return row, err
}

func (s *movesStore) Move(ctx context.Context, m control.Move) (control.Sandbox, bool, error) {
	if m.To == s.dead {
		return control.Sandbox{}, false, fault.New(fault.Unavailable, "database_unavailable", "down")
	}
	row, won, err := s.Store.Move(ctx, m)
	if won {
		select {
		case s.moves <- m:
		default:
		}
	}
	return row, won, err
}

// setup makes a control plane that takes a disagreement for lasting at once,
// unless change says otherwise.
func setup(t *testing.T, change ...func(*control.Config)) *bundle {
	t.Helper()
	t.Parallel()
	cfg := control.DefaultConfig()
	cfg.Grace = 0
	for _, f := range change {
		f(&cfg)
	}
	host := newFakeHost("h1")
	store := &movesStore{Store: pgtest.Open(t), moves: make(chan control.Move, 64), gets: make(chan sandbox.ID, 64)}
	s, err := control.New(cfg, store, newFakeFleet(host), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return &bundle{Service: s, t: t, host: host, store: store, pass: s.Reconciler(host.id)}
}

func (b *bundle) create() control.Sandbox {
	b.t.Helper()
	row, err := b.Create(b.t.Context(), control.NewSandbox{})
	if err != nil {
		b.t.Fatal("create:", err)
	}
	return row
}

func (b *bundle) reconcile() {
	b.t.Helper()
	if err := b.pass(b.t.Context()); err != nil {
		b.t.Fatal("reconcile:", err)
	}
}

// only returns the single row there is.
func (b *bundle) only() control.Sandbox {
	b.t.Helper()
	rows, _, err := b.List(b.t.Context(), control.Filter{})
	if err != nil || len(rows) != 1 {
		b.t.Fatalf("%d rows, %v, want 1", len(rows), err)
	}
	return rows[0]
}

// want checks row and VM of a sandbox.
func (b *bundle) want(id sandbox.ID, state sandbox.State, reason sandbox.StopReason, vm control.VMState) {
	b.t.Helper()
	row, err := b.Get(b.t.Context(), id)
	if err != nil || row.State != state || row.StopReason != reason {
		b.t.Errorf("row is %s %q, %v, want %s %q", row.State, row.StopReason, err, state, reason)
	}
	if got := b.host.has(id); got != vm {
		b.t.Errorf("VM is %q, want %q", got, vm)
	}
}

func wantFault(t *testing.T, err error, kind fault.Kind, reason string) {
	t.Helper()
	if !fault.Is(err, kind) || fault.ReasonOf(err) != reason {
		t.Errorf("error is %v, want %s %s", err, kind, reason)
	}
}

func TestCreate(t *testing.T) {
	b := setup(t)
	row, err := b.Create(t.Context(), control.NewSandbox{
		Spec: request(sandbox.Spec{Env: map[string]string{"A": "1"}}), Metadata: map[string]string{"k": "v"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if row.GuestIP != "10.0.0.2" || row.HostIP != "10.11.0.1" || row.StartedAt == nil || row.Metadata["k"] != "v" || row.HostID != "h1" {
		t.Errorf("%+v", row)
	}
	b.want(row.ID, sandbox.Running, "", control.VMRunning)
	if b.host.vms[row.ID].Spec.Env["A"] != "1" {
		t.Error("the environment did not reach the host")
	}
}

func TestCreateRefused(t *testing.T) {
	b := setup(t)
	for reason, spec := range map[string]sandbox.Spec{
		"template_not_found":    {Template: "nosuch"},
		"invalid_template":      {Template: "../etc"},
		"invalid_vcpus":         {VCPUs: 5},
		"invalid_memory":        {MemoryMB: 4097},
		"isolation_unavailable": {MinIsolation: sandbox.IsolationHardware},
	} {
		_, err := b.Create(t.Context(), control.NewSandbox{Spec: request(spec)})
		wantFault(t, err, fault.Invalid, reason)
	}
	_, err := b.Create(t.Context(), control.NewSandbox{Metadata: map[string]string{"k": "\x00"}})
	wantFault(t, err, fault.Invalid, "invalid_metadata")
	if rows, _, err := b.List(t.Context(), control.Filter{}); err != nil || len(rows) != 0 {
		t.Errorf("%d rows, %v", len(rows), err)
	}
}

// TestCreateRuntime: a sandbox has the runtime of its host, and one that no host
// offers is refused.
func TestCreateRuntime(t *testing.T) {
	b := setup(t)
	for _, asked := range []sandbox.Runtime{"", sandbox.RuntimeMicroVM} {
		if row := b.createWith(sandbox.Spec{Runtime: asked}); row.Spec.Runtime != sandbox.RuntimeMicroVM {
			t.Errorf("asked for %q, got %q", asked, row.Spec.Runtime)
		}
	}
	_, err := b.Create(t.Context(), control.NewSandbox{Spec: control.SpecRequest{Runtime: sandbox.RuntimeGVisor}})
	wantFault(t, err, fault.Unsupported, "runtime_unavailable")
	_, err = b.Create(t.Context(), control.NewSandbox{Spec: control.SpecRequest{Runtime: "docker"}})
	wantFault(t, err, fault.Invalid, "invalid_runtime")
}

func TestCreateDemandsOfOperator(t *testing.T) {
	b := setup(t, func(c *control.Config) { c.RequireMultiTenant = true })
	_, err := b.Create(t.Context(), control.NewSandbox{})
	wantFault(t, err, fault.Invalid, "isolation_unavailable")
}

// TestCreateMinIsolation: the operator's weakest isolation holds for sandboxes that ask
// for none or for less.
func TestCreateMinIsolation(t *testing.T) {
	b := setup(t, func(c *control.Config) { c.MinIsolation = sandbox.IsolationHardware })
	for _, asked := range []sandbox.Isolation{"", sandbox.IsolationProcess} {
		_, err := b.Create(t.Context(), control.NewSandbox{Spec: control.SpecRequest{MinIsolation: asked}})
		wantFault(t, err, fault.Invalid, "isolation_unavailable")
	}
}

func TestCreateHostDown(t *testing.T) {
	b := setup(t)
	b.host.setDown(true)
	_, err := b.Create(t.Context(), control.NewSandbox{})
	wantFault(t, err, fault.HostFailed, "host_unreachable")
	wantFault(t, b.Ready(t.Context()), fault.HostFailed, "host_unreachable")
	b.host.setDown(false)
	b.create() // found again without a loop
	wantFault(t, b.Ready(t.Context()), fault.Unavailable, "first_pass_pending")
	b.reconcile()
	if err := b.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	// Down, but not known to be: the row tells the outcome.
	b.host.setDown(true)
	_, err = b.Create(t.Context(), control.NewSandbox{})
	wantFault(t, err, fault.HostFailed, "host_unreachable")
}

func TestCreateFails(t *testing.T) {
	b := setup(t)
	b.host.script(true, "create", refuse(fault.New(fault.Internal, "boot_failed", "no kernel\x00 \xff")))
	_, err := b.Create(t.Context(), control.NewSandbox{})
	wantFault(t, err, fault.HostFailed, "boot_failed")
	row := b.only()
	b.want(row.ID, sandbox.Error, sandbox.ReasonBootFailed, "")
	if row.Message != "no kernel \uFFFD" {
		t.Errorf("message %q", row.Message)
	}
}

func TestCreateAnswerLost(t *testing.T) {
	b := setup(t)
	b.host.script(false, "create", lost)
	_, err := b.Create(t.Context(), control.NewSandbox{})
	wantFault(t, err, fault.HostFailed, "outcome_unknown")
	row := b.only()
	b.want(row.ID, sandbox.Pending, "", control.VMRunning)
	b.reconcile()
	b.want(row.ID, sandbox.Running, "", control.VMRunning)
	if b.only().StartedAt == nil {
		t.Error("moved to running without the host's runtime information")
	}
}

func TestCreateRequestLost(t *testing.T) {
	b := setup(t)
	b.host.script(true, "create", lost)
	_, err := b.Create(t.Context(), control.NewSandbox{})
	wantFault(t, err, fault.HostFailed, "outcome_unknown")
	row := b.only()
	b.want(row.ID, sandbox.Pending, "", "")
	b.reconcile()
	b.want(row.ID, sandbox.Error, sandbox.ReasonBootFailed, "")
}

// TestDatabaseDies has the database go after each host command. The host's result
// is taken over when the database is back.
func TestDatabaseDies(t *testing.T) {
	b := setup(t)
	back := func() {
		b.store.dead = ""
		b.reconcile()
		b.reconcile()
	}
	b.store.dead = sandbox.Running
	_, err := b.Create(t.Context(), control.NewSandbox{})
	wantFault(t, err, fault.Unavailable, "database_unavailable")
	id := b.only().ID
	b.want(id, sandbox.Pending, "", control.VMRunning)
	back()
	b.want(id, sandbox.Running, "", control.VMRunning)

	b.store.dead = sandbox.Paused
	_, err = b.Pause(t.Context(), id)
	wantFault(t, err, fault.Unavailable, "database_unavailable")
	back()
	b.want(id, sandbox.Paused, "", control.VMPaused)

	b.store.dead = sandbox.Running
	_, err = b.Resume(t.Context(), id)
	wantFault(t, err, fault.Unavailable, "database_unavailable")
	back()
	b.want(id, sandbox.Running, "", control.VMRunning)

	b.store.dead = sandbox.Stopped
	wantFault(t, b.Destroy(t.Context(), id), fault.Unavailable, "database_unavailable")
	back()
	b.want(id, sandbox.Stopped, sandbox.ReasonDestroyed, "")
}

func TestCreateTimesOut(t *testing.T) {
	b := setup(t, func(c *control.Config) { c.CreateTimeout = 20 * time.Millisecond })
	b.host.script(true, "create", newGate().wait)
	_, err := b.Create(t.Context(), control.NewSandbox{})
	wantFault(t, err, fault.Timeout, "outcome_unknown")
	b.want(b.only().ID, sandbox.Pending, "", "")
}

// TestCreateCallerGone shows that a create continues when its caller hangs up.
func TestCreateCallerGone(t *testing.T) {
	b := setup(t)
	g := newGate()
	b.host.script(true, "create", g.wait)
	ctx, cancel := context.WithCancel(t.Context())
	created := make(chan error)
	go func() {
		_, err := b.Create(ctx, control.NewSandbox{})
		created <- err
	}()
	<-g.entered
	cancel()
	close(g.open)
	if err := <-created; err != nil {
		t.Error(err)
	}
	b.want(b.only().ID, sandbox.Running, "", control.VMRunning)
}

func TestDestroyDuringCreate(t *testing.T) {
	b := setup(t)
	g := newGate()
	b.host.script(true, "create", g.wait)
	created := make(chan error)
	go func() {
		_, err := b.Create(t.Context(), control.NewSandbox{})
		created <- err
	}()
	<-g.entered
	row := b.only()
	if err := b.Destroy(t.Context(), row.ID); err != nil {
		t.Error(err)
	}
	b.want(row.ID, sandbox.Stopped, sandbox.ReasonDestroyed, "")
	close(g.open) // and now the host boots it after all
	wantFault(t, <-created, fault.WrongState, "sandbox_ended")
	b.want(row.ID, sandbox.Stopped, sandbox.ReasonDestroyed, "")
}

func TestManyCreates(t *testing.T) {
	b := setup(t) // the host has room for 8
	var (
		wg sync.WaitGroup
		mu sync.Mutex
		ok int
	)
	for range 20 {
		wg.Go(func() {
			_, err := b.Create(t.Context(), control.NewSandbox{})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				ok++
			} else {
				wantFault(t, err, fault.NoCapacity, "no_capacity")
			}
		})
	}
	wg.Wait()
	if ok != 8 || len(b.host.vms) != 8 {
		t.Errorf("%d created, %d VMs, want 8", ok, len(b.host.vms))
	}
}

func TestDestroy(t *testing.T) {
	b := setup(t)
	row := b.create()
	for range 2 {
		if err := b.Destroy(t.Context(), row.ID); err != nil {
			t.Error(err)
		}
	}
	b.want(row.ID, sandbox.Stopped, sandbox.ReasonDestroyed, "")
	wantFault(t, b.Destroy(t.Context(), "nosuch"), fault.NotFound, "sandbox_not_found")
}

func TestDestroyHostDown(t *testing.T) {
	b := setup(t)
	row := b.create()
	b.host.setDown(true)
	wantFault(t, b.Destroy(t.Context(), row.ID), fault.HostFailed, "destroy_pending")
	b.want(row.ID, sandbox.Stopping, "", control.VMRunning)
	_, err := b.Exec(t.Context(), row.ID, control.Exec{Cmd: "x"}, sink{})
	wantFault(t, err, fault.WrongState, "sandbox_ended")
	b.host.setDown(false)
	b.reconcile() // destroys the VM
	b.reconcile() // and finds it gone
	b.want(row.ID, sandbox.Stopped, sandbox.ReasonDestroyed, "")
}

type sink struct{ out *bytes.Buffer }

func (s sink) Stdout(p []byte) error { s.out.Write(p); return nil }
func (s sink) Stderr([]byte) error   { return nil }
