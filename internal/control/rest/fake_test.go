package rest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// fakeSandboxes is control.Sandboxes in memory: sandboxes with a state, and files
// with a size and a hash. The test supplies the commands.
type fakeSandboxes struct {
	exec  func(ctx context.Context, e control.Exec, sink control.ExecSink) (control.ExecResult, error)
	ready error
	// createErr and hostErr fail Create and everything that needs the host.
	createErr, hostErr error
	// stages are told during a create.
	stages []control.CreateStage
	// open, if set, stands in for the file at /special.
	open func() *control.File

	// clocks, forked and garbage are the last requests.
	clocks  control.ClockRequest
	forked  control.Fork
	garbage []control.GarbageMode

	mu    sync.Mutex // protects the following
	rows  []control.Sandbox
	snaps []control.Snapshot
	files map[string]fakeFile
	// reboots counts the calls of Reboot.
	reboots int
	// fileCalls are the operations on names, in order.
	fileCalls []control.FileCall
	// processes are all that were started, in any sandbox.
	processes []*fakeProcess
	// attachErr, if set, ends every attach after its output.
	attachErr error
	// attachWait, if set, is called after the output and ends every attach.
	attachWait func(context.Context) error
}

type fakeFile struct {
	where control.WriteFile
	size  int64
	sum   uint32
	// data is kept for small files only.
	data []byte
}

var fakeLimits = sandbox.Limits{MaxVCPUs: 8, MinMemoryMB: 128, MaxMemoryMB: 4096}

func newFake() *fakeSandboxes {
	return &fakeSandboxes{files: make(map[string]fakeFile)}
}

// snapshot is everything a request can have changed.
func (f *fakeSandboxes) snapshot() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fmt.Sprintf("%+v %+v %+v", f.rows, f.snaps, f.files)
}

// add puts a sandbox in state st there.
func (f *fakeSandboxes) add(st sandbox.State) sandbox.ID {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	sb := control.Sandbox{
		ID: sandbox.NewID(), Generation: 1, State: st, Spec: sandbox.Spec{Runtime: sandbox.RuntimeMicroVM}.WithDefaults(),
		HostID: "h1", GuestIP: "169.254.0.21", HostIP: "10.11.0.2", Acceleration: "tcg", Isolation: sandbox.IsolationProcess,
		CreatedAt: now, UpdatedAt: now,
	}
	f.rows = append(f.rows, sb)
	return sb.ID
}

func (f *fakeSandboxes) Create(_ context.Context, n control.NewSandbox) (control.Sandbox, error) {
	hosts, _ := f.Hosts(context.Background())
	spec, err := n.Spec.Complete(hosts)
	if err != nil {
		return control.Sandbox{}, err
	}
	for _, stage := range f.stages {
		n.Progress(stage)
	}
	if f.createErr != nil {
		return control.Sandbox{}, f.createErr
	}
	if n.SnapshotID != "" && n.Spec.VCPUs != nil {
		return control.Sandbox{}, fault.New(fault.Invalid, "snapshot_fixes_size", "vcpus comes from the snapshot")
	}
	if err := spec.ValidateFor(fakeLimits); err != nil {
		return control.Sandbox{}, err
	}
	if n.Name != "" && f.nameTaken(n.Name) {
		return control.Sandbox{}, fault.New(fault.Exists, control.ReasonNameTaken, "another sandbox has this name")
	}
	id := f.add(sandbox.Running)
	f.mu.Lock()
	defer f.mu.Unlock()
	sb := &f.rows[len(f.rows)-1]
	spec.Runtime = cmp.Or(spec.Runtime, sandbox.RuntimeMicroVM)
	sb.Name, sb.Spec, sb.Metadata, sb.SnapshotID = n.Name, spec, n.Metadata, n.SnapshotID
	now := time.Now()
	sb.StartedAt, sb.LastActiveAt = &now, &now
	if spec.Lifetime > 0 {
		sb.LifetimeEndsAt = ptr(now.Add(spec.Lifetime))
	}
	if sb.ID != id {
		panic("the fake is not for concurrent creates")
	}
	return *sb, nil
}

func (f *fakeSandboxes) nameTaken(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.ContainsFunc(f.rows, func(sb control.Sandbox) bool { return sb.Name == name && !sb.State.Ended() })
}

func (f *fakeSandboxes) SetTimeouts(_ context.Context, id sandbox.ID, c control.ClockRequest) (control.Sandbox, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	sb, err := f.find(id)
	if err != nil {
		return control.Sandbox{}, err
	}
	f.clocks = c
	sb.Spec, err = c.ApplyTo(sb.Spec)
	return *sb, err
}

func (f *fakeSandboxes) SetEgress(_ context.Context, id sandbox.ID, limits sandbox.Egress) (control.Sandbox, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	sb, err := f.find(id)
	if err != nil {
		return control.Sandbox{}, err
	}
	spec := sb.Spec
	spec.Egress = limits
	if err := spec.Validate(); err != nil {
		return control.Sandbox{}, err
	}
	sb.Spec = spec
	return *sb, nil
}

// Fork makes two children, of which one has failed, for any request.
func (f *fakeSandboxes) Fork(_ context.Context, id sandbox.ID, k control.Fork) (control.Forked, error) {
	if err := f.running(id); err != nil {
		return control.Forked{}, err
	}
	f.forked = k
	child := f.add(sandbox.Running)
	f.mu.Lock()
	defer f.mu.Unlock()
	sb, err := f.find(child)
	if err != nil {
		return control.Forked{}, err
	}
	sb.ParentID, sb.Source = id, "fork"
	return control.Forked{
		Sandboxes: []control.Sandbox{*sb}, PauseWindow: 41237 * time.Microsecond,
		Failed: []control.FailedFork{{ID: "failed1", Err: fault.New(fault.NoCapacity, "no_memory", "the host is full")}},
	}, nil
}

func (f *fakeSandboxes) CreateSnapshot(_ context.Context, id sandbox.ID, n control.NewSnapshot) (control.Snapshot, error) {
	if f.createErr != nil {
		return control.Snapshot{}, f.createErr
	}
	if n.DiskOnly && n.Force {
		return control.Snapshot{}, fault.New(fault.Invalid, "invalid_force", "leave out force, or memory")
	}
	if err := f.running(id); err != nil {
		return control.Snapshot{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	snap := control.Snapshot{
		ID: sandbox.NewSnapshotID(), Kind: control.KindNamed, Status: control.SnapshotReady, Name: n.Name, Metadata: n.Metadata,
		Of: sandbox.Ref{ID: id, Generation: 1}, HostID: "h1", Spec: sandbox.Spec{}.WithDefaults(), Bytes: 4096, Users: 1,
		PauseWindow: 5 * time.Millisecond, CreatedAt: time.Now(), DiskOnly: n.DiskOnly,
	}
	f.snaps = append(f.snaps, snap)
	return snap, nil
}

func (f *fakeSandboxes) ForcePause(ctx context.Context, id sandbox.ID) (control.Sandbox, error) {
	sb, err := f.Pause(ctx, id)
	if err == nil {
		sb.Health = sandbox.Health{State: sandbox.HealthUnresponsive, Since: time.Now(), Forced: true}
	}
	return sb, err
}

func (f *fakeSandboxes) PauseDisk(ctx context.Context, id sandbox.ID) (control.Sandbox, error) {
	sb, err := f.Pause(ctx, id)
	sb.DiskOnly, sb.Health = err == nil, sandbox.Health{State: sandbox.HealthOK}
	return sb, err
}

func (f *fakeSandboxes) Reboot(ctx context.Context, id sandbox.ID) (control.Sandbox, error) {
	f.mu.Lock()
	f.reboots++
	f.mu.Unlock()
	return f.Resume(ctx, id)
}

// findSnap returns the snapshot id, under mu.
func (f *fakeSandboxes) findSnap(id sandbox.SnapshotID) (*control.Snapshot, error) {
	for i := range f.snaps {
		if f.snaps[i].ID == id {
			return &f.snaps[i], nil
		}
	}
	return nil, fault.New(fault.NotFound, "snapshot_not_found", "there is no snapshot with the id %s", id)
}

func (f *fakeSandboxes) GetSnapshot(_ context.Context, id sandbox.SnapshotID) (control.Snapshot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	snap, err := f.findSnap(id)
	if err != nil {
		return control.Snapshot{}, err
	}
	return *snap, nil
}

func (f *fakeSandboxes) ListSnapshots(_ context.Context, flt control.SnapshotFilter) ([]control.Snapshot, string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []control.Snapshot
	for _, snap := range slices.Backward(f.snaps) {
		if (flt.Name == "" || flt.Name == snap.Name) && (flt.SandboxID == "" || flt.SandboxID == snap.Of.ID) {
			out = append(out, snap)
		}
	}
	// The cursor is the id of the last snapshot.
	if at := slices.IndexFunc(out, func(s control.Snapshot) bool { return string(s.ID) == flt.Cursor }); at >= 0 {
		out = out[at+1:]
	}
	if flt.Limit > 0 && len(out) > flt.Limit {
		return out[:flt.Limit], string(out[flt.Limit-1].ID), nil
	}
	return out, "", nil
}

func (f *fakeSandboxes) DeleteSnapshot(_ context.Context, id sandbox.SnapshotID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	snap, err := f.findSnap(id)
	if err != nil {
		return err
	}
	if snap.TemplateName != "" {
		return fault.New(fault.WrongState, "snapshot_is_template", "the snapshot is a template")
	}
	f.snaps = slices.DeleteFunc(f.snaps, func(s control.Snapshot) bool { return s.ID == id })
	return nil
}

func (f *fakeSandboxes) SetTemplate(_ context.Context, id sandbox.SnapshotID, name string) (control.Snapshot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	snap, err := f.findSnap(id)
	if err != nil {
		return control.Snapshot{}, err
	}
	if name != "" && !sandbox.ValidTemplateName(name) {
		return control.Snapshot{}, fault.New(fault.Invalid, "invalid_template", "name is not one of a template")
	}
	snap.TemplateName = name
	return *snap, nil
}

func (f *fakeSandboxes) CollectGarbage(_ context.Context, mode control.GarbageMode) ([]control.Garbage, error) {
	f.garbage = append(f.garbage, mode)
	return []control.Garbage{
		{HostID: "h1", Kind: "build", ID: "b1", Bytes: 5, Reason: "left by a build"},
		{HostID: "h1", Kind: "snapshot", ID: "s1", Bytes: 7, Reason: "nothing uses it"},
	}, f.hostErr
}

// find returns the row of id, under mu.
func (f *fakeSandboxes) find(id sandbox.ID) (*control.Sandbox, error) {
	for i := range f.rows {
		if f.rows[i].ID == id {
			return &f.rows[i], nil
		}
	}
	return nil, fault.New(fault.NotFound, "sandbox_not_found", "there is no sandbox with the id %s", id)
}

func (f *fakeSandboxes) Get(_ context.Context, id sandbox.ID) (control.Sandbox, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	sb, err := f.find(id)
	if err != nil {
		return control.Sandbox{}, err
	}
	return *sb, nil
}

func (f *fakeSandboxes) List(_ context.Context, flt control.Filter) ([]control.Sandbox, string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []control.Sandbox
	passed := flt.Cursor == ""
	for _, sb := range slices.Backward(f.rows) {
		if !passed {
			passed = string(sb.ID) == flt.Cursor
			continue
		}
		if len(flt.Statuses) > 0 && !slices.Contains(flt.Statuses, sb.State.Status()) ||
			flt.Template != "" && flt.Template != sb.Spec.Template || flt.Name != "" && flt.Name != sb.Name ||
			!hasAll(sb.Metadata, flt.Metadata) {
			continue
		}
		if flt.Limit > 0 && len(out) == flt.Limit {
			return out, string(out[len(out)-1].ID), nil
		}
		out = append(out, sb)
	}
	if !passed {
		return nil, "", fault.New(fault.Invalid, "invalid_cursor", "cursor is not one that a list returned")
	}
	return out, "", nil
}

// hasAll reports whether have contains every entry of want.
func hasAll(have, want map[string]string) bool {
	for k, v := range want {
		if got, ok := have[k]; !ok || got != v {
			return false
		}
	}
	return true
}

func (f *fakeSandboxes) move(id sandbox.ID, from, to sandbox.State) (control.Sandbox, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	sb, err := f.find(id)
	if err != nil {
		return control.Sandbox{}, err
	}
	if f.hostErr != nil {
		return control.Sandbox{}, f.hostErr
	}
	if from != "" && sb.State != from {
		return control.Sandbox{}, fault.New(fault.WrongState, "wrong_state", "the sandbox is %s, not %s", sb.State.Status(), from)
	}
	if sb.State != to {
		sb.State, sb.UpdatedAt = to, time.Now()
	}
	return *sb, nil
}

func (f *fakeSandboxes) Destroy(_ context.Context, id sandbox.ID) error {
	_, err := f.move(id, "", sandbox.Stopped)
	return err
}

func (f *fakeSandboxes) Pause(_ context.Context, id sandbox.ID) (control.Sandbox, error) {
	return f.move(id, sandbox.Running, sandbox.Paused)
}

func (f *fakeSandboxes) Resume(_ context.Context, id sandbox.ID) (control.Sandbox, error) {
	return f.move(id, sandbox.Paused, sandbox.Running)
}

func (f *fakeSandboxes) running(id sandbox.ID) error {
	_, err := f.move(id, sandbox.Running, sandbox.Running)
	return err
}

func (f *fakeSandboxes) Exec(ctx context.Context, id sandbox.ID, e control.Exec, sink control.ExecSink) (control.ExecResult, error) {
	if err := f.running(id); err != nil {
		return control.ExecResult{}, err
	}
	return f.exec(ctx, e, sink)
}

// WriteFile wraps a failure of content as a host would, that cannot tell whose
// fault it was.
func (f *fakeSandboxes) WriteFile(_ context.Context, id sandbox.ID, w control.WriteFile, content io.Reader) (int64, error) {
	if err := f.running(id); err != nil {
		return 0, err
	}
	sum, data := crc32.New(castagnoli), &headBuffer{}
	n, err := io.CopyBuffer(io.MultiWriter(sum, data), content, make([]byte, 64<<10))
	if err != nil {
		return 0, fault.Wrap(err, fault.HostFailed, "host_failed", "the host could not write the file")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.files[w.Path] = fakeFile{where: w, size: n, sum: sum.Sum32(), data: data.Bytes()}
	return n, nil
}

// headBuffer keeps the first bytes written to it.
type headBuffer struct{ bytes.Buffer }

func (h *headBuffer) Write(p []byte) (int, error) {
	if room := 64<<10 - h.Len(); room > 0 {
		h.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (f *fakeSandboxes) ReadFile(_ context.Context, id sandbox.ID, r control.ReadFile) (*control.File, error) {
	if err := f.running(id); err != nil {
		return nil, err
	}
	if r.Path == "/special" && f.open != nil {
		return f.open(), nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	file, ok := f.files[r.Path]
	if !ok {
		return nil, fault.New(fault.NotFound, "file_not_found", "there is no file %s", r.Path)
	}
	out := &control.File{Name: r.Path, Size: file.size, Tag: "1-2-3", ModifiedAt: time.Unix(1_700_000_000, 0)}
	out.Body = io.NopCloser(bytes.NewReader(cutFake(out, file.data, r.Range)))
	return out, nil
}

// cutFake limits a file as a guest does, and returns the content.
func cutFake(f *control.File, data []byte, r *control.FileRange) []byte {
	if r == nil || f.Size == 0 || r.IfTag != "" && r.IfTag != f.Tag {
		return data
	}
	offset := r.Offset
	if offset < 0 {
		offset = max(f.Size+offset, 0)
	}
	f.Part = &control.FilePart{Offset: min(offset, f.Size), Total: f.Size}
	f.Size -= f.Part.Offset
	if r.Length > 0 {
		f.Size = min(f.Size, r.Length)
	}
	return data[f.Part.Offset:][:f.Size]
}

func (f *fakeSandboxes) Hosts(context.Context) ([]control.HostInfo, error) {
	if f.hostErr != nil {
		return nil, f.hostErr
	}
	return []control.HostInfo{
		{ID: "h0"},
		{
			ID: "h1", AgentVersion: "1", GuestVersion: "1",
			Runtimes: []control.HostRuntime{{
				Runtime: sandbox.RuntimeMicroVM, Driver: "qemu", DriverVersion: "10.0.2", Acceleration: "tcg",
				Reason: "there is no /dev/kvm", Isolation: sandbox.IsolationProcess, MultiTenant: true,
			}},
			KernelRelease: "6.1.0", VCPUs: 8, MemoryMB: 8192, DiskTotal: 1 << 40, DiskFree: 1 << 39,
			Limits: fakeLimits, Templates: []string{"minimal"}, Reachable: true, SeenAt: time.Now(),
		},
	}, nil
}

func (f *fakeSandboxes) Ready(context.Context) error { return f.ready }

// pattern is an endless reader of bytes that repeat after a prime number of them, so that
// no two blocks of a power of two follow each other with the same content.
type pattern struct{ at int }

var patternBytes = func() (b [65521]byte) {
	for i := range b {
		b[i] = byte((uint64(i) * 0x9E3779B97F4A7C15) >> 56)
	}
	return b
}()

func (p *pattern) Read(b []byte) (int, error) {
	n := copy(b, patternBytes[p.at:])
	p.at = (p.at + n) % len(patternBytes)
	return n, nil
}

// castagnoli is a checksum that processors calculate: the race detector does not slow it.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// patternSum is the checksum of the first n bytes of a pattern.
func patternSum(n int64) uint32 {
	sum := crc32.New(castagnoli)
	_, _ = io.CopyN(sum, &pattern{}, n)
	return sum.Sum32()
}
