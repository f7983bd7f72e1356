package templates_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/archive"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// fakeMachines are machines whose file systems are directories, and whose commands run on
// this machine with relative names. A command that the build itself brings is played.
type fakeMachines struct {
	t   *testing.T
	dir string

	mu        sync.Mutex
	machines  map[sandbox.ID]*fakeMachine
	snapshots map[sandbox.SnapshotID]control.Snapshot
	images    map[string]control.HostImage
	made      int
	commands  []string
	timeouts  []time.Duration // those of commands
	processes map[control.ProcessID]control.Process
	started   []control.Exec
	again     []control.StartAgain // of the commands in started
	// before is called before each command.
	before func(text string)
	// list returns a page of a listing in place of the real one; nil lists the directory.
	list func(c control.FileList) control.FilePage
	// broken fails the next commands whose text contains it, as a host does that has lost
	// the machine.
	broken map[string]int
	// hold blocks commands whose text contains it until their context ends.
	hold string
	// held is sent to for each of them.
	held chan string
	// creates are the requests for machines, and touches counts the signs of activity.
	creates []control.NewMachine
	touches map[sandbox.ID]int
	hosts   []control.HostInfo
	// fail returns the error of a create, which may have made the machine; nil fails none.
	fail func(m control.NewMachine) (made bool, err error)
	// listed are the named snapshots.
	listed []control.Snapshot
	// importing blocks imports, after they have told their progress, until it is closed.
	importing chan struct{}
	// destroying blocks Destroy until it is closed.
	destroying chan struct{}
	// refuse reports whether a Destroy fails; nil fails none.
	refuse func() bool
}

type fakeMachine struct {
	row control.Sandbox
	dir string
}

func newFakeMachines(t *testing.T) *fakeMachines {
	t.Helper()
	f := &fakeMachines{
		t: t, dir: t.TempDir(), machines: map[sandbox.ID]*fakeMachine{}, snapshots: map[sandbox.SnapshotID]control.Snapshot{},
		images: map[string]control.HostImage{}, processes: map[control.ProcessID]control.Process{}, broken: map[string]int{}, held: make(chan string, 100),
		touches: map[sandbox.ID]int{}, hosts: []control.HostInfo{{ID: "h", Reachable: true, Templates: []string{"base"}}},
	}
	f.image("base", map[string]string{"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n", "etc/group": "user:x:1000:\nstaff:x:50:\n"})
	return f
}

// image makes an image with files.
func (f *fakeMachines) image(name string, files map[string]string) {
	f.t.Helper()
	for file, text := range files {
		full := filepath.Join(f.dir, "image-"+name, file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o755), os.WriteFile(full, []byte(text), 0o644)); err != nil {
			f.t.Fatal(err)
		}
	}
}

func (f *fakeMachines) CreateMachine(_ context.Context, m control.NewMachine) (control.Sandbox, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.creates = append(f.creates, m)
	var failed error
	if f.fail != nil {
		made, err := f.fail(m)
		if err != nil && !made {
			return control.Sandbox{}, err
		}
		failed = err
	}
	size := sandbox.Spec{VCPUs: m.VCPUs, MemoryMB: m.MemoryMB, DiskMB: m.DiskMB}
	from := filepath.Join(f.dir, "image-"+m.Image)
	if m.Snapshot != "" {
		snap, ok := f.snapshots[m.Snapshot]
		if !ok {
			return control.Sandbox{}, fault.New(fault.NotFound, "snapshot_not_found", "no snapshot %s", m.Snapshot)
		}
		size = snap.Spec
		from = filepath.Join(f.dir, "snapshot-"+string(m.Snapshot))
	}
	f.made++
	id := m.ID
	dir := filepath.Join(f.dir, "machine-"+string(id))
	if err := copyTree(from, dir); err != nil {
		return control.Sandbox{}, err
	}
	row := control.Sandbox{ID: id, BuildID: m.Build, State: sandbox.Running, HostID: "h", Spec: size}
	f.machines[id] = &fakeMachine{row, dir}
	if failed != nil {
		return control.Sandbox{}, failed
	}
	return row, nil
}

func copyTree(from, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	if _, err := os.Stat(from); err != nil {
		return nil
	}
	return exec.Command("cp", "-a", from+"/.", to).Run()
}

func (f *fakeMachines) MachinesOf(_ context.Context, build string) ([]control.Sandbox, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []control.Sandbox
	for _, m := range f.machines {
		if build == "" || m.row.BuildID == build {
			out = append(out, m.row)
		}
	}
	return out, nil
}

func (f *fakeMachines) Destroy(_ context.Context, id sandbox.ID) error {
	f.mu.Lock()
	blocked := f.destroying
	f.mu.Unlock()
	if blocked != nil {
		<-blocked
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse != nil && f.refuse() {
		return fault.New(fault.HostFailed, "host_failed", "the host failed")
	}
	delete(f.machines, id)
	return nil
}

func (f *fakeMachines) machine(id sandbox.ID) (*fakeMachine, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.machines[id]
	if m == nil {
		return nil, fault.New(fault.WrongState, control.ReasonEnded, "sandbox %s has ended", id)
	}
	return m, nil
}

func (f *fakeMachines) KeepSnapshot(_ context.Context, id sandbox.ID, k control.KeptSnapshot) (control.Snapshot, error) {
	m, err := f.machine(id)
	if err != nil {
		return control.Snapshot{}, err
	}
	s := control.Snapshot{ID: sandbox.SnapshotID(sandbox.NewID()), Kind: k.Kind, Status: control.SnapshotReady, HostID: "h", Bytes: 100, Spec: m.row.Spec}
	if err := copyTree(m.dir, filepath.Join(f.dir, "snapshot-"+string(s.ID))); err != nil {
		return control.Snapshot{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.snapshots[s.ID] = s
	return s, nil
}

func (f *fakeMachines) DropSnapshot(_ context.Context, id sandbox.SnapshotID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.snapshots, id)
	return nil
}

func (f *fakeMachines) GetKept(_ context.Context, id sandbox.SnapshotID) (control.Snapshot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.snapshots[id]
	if !ok {
		return control.Snapshot{}, fault.New(fault.NotFound, "snapshot_not_found", "no snapshot %s", id)
	}
	return s, nil
}

func (f *fakeMachines) ListSnapshots(_ context.Context, _ control.SnapshotFilter) ([]control.Snapshot, string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.listed), "", nil
}

func (f *fakeMachines) Hosts(context.Context) ([]control.HostInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.hosts), nil
}

// set changes the fake.
func (f *fakeMachines) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fakeMachines) ImportImage(_ context.Context, _ string, src control.ImageSource, content io.Reader, progress func(control.ImageProgress)) (control.HostImage, string, error) {
	progress(control.ImageProgress{Stage: "pull", Detail: "app\x1b[2J", Done: 1, Total: 2})
	f.mu.Lock()
	importing := f.importing
	f.mu.Unlock()
	if importing != nil {
		<-importing
	}
	if src.Reference == "" {
		_, err := io.Copy(io.Discard, content)
		return control.HostImage{Name: "oci-archive", Digest: "sha256:0"}, "h", err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	img, ok := f.images[src.Reference]
	if !ok {
		return control.HostImage{}, "", fault.New(fault.NotFound, "image_not_found", "there is no image %s", src.Reference)
	}
	return img, "h", nil
}

// texts returns the commands so far.
func (f *fakeMachines) texts() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.commands)
}

func (f *fakeMachines) Exec(ctx context.Context, id sandbox.ID, e control.Exec, sink control.ExecSink) (control.ExecResult, error) {
	m, err := f.machine(id)
	if err != nil {
		return control.ExecResult{}, err
	}
	text := strings.Join(append([]string{e.Cmd}, e.Args...), " ")
	if strings.Contains(text, "useradd") { // a script of the build itself
		return control.ExecResult{}, f.play(m, e.Args[len(e.Args)-1])
	}
	f.mu.Lock()
	f.commands, f.timeouts = append(f.commands, e.User+": "+text), append(f.timeouts, e.Timeout)
	lost := ""
	for part, n := range f.broken {
		if strings.Contains(text, part) && n > 0 {
			f.broken[part]--
			lost = part
		}
	}
	hold := f.hold != "" && strings.Contains(text, f.hold)
	f.mu.Unlock()
	if f.before != nil {
		f.before(text)
	}
	if lost != "" {
		_ = f.Destroy(ctx, id)
		return control.ExecResult{}, fault.New(fault.WrongState, control.ReasonEnded, "sandbox %s has ended", id)
	}
	if hold {
		f.held <- text
		<-ctx.Done()
		return control.ExecResult{}, context.Cause(ctx)
	}
	args := slices.Clone(e.Args)
	name := e.Cmd
	if _, err := os.Stat(filepath.Join(m.dir, name)); err == nil && path.IsAbs(name) && strings.HasPrefix(name, "/run/") {
		name = filepath.Join(m.dir, name)
	}
	c := exec.CommandContext(ctx, name, args...)
	c.Dir = filepath.Join(m.dir, e.Cwd)
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "GUEST=" + m.dir}
	for k, v := range e.Env {
		c.Env = append(c.Env, k+"="+v)
	}
	c.Stdout, c.Stderr = writer(sink.Stdout), writer(sink.Stderr)
	err = c.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return control.ExecResult{ExitCode: exit.ExitCode()}, nil
	}
	if err != nil {
		return control.ExecResult{}, fault.Wrap(err, fault.NotFound, "command_not_found", "%s cannot be started: %v", e.Cmd, err)
	}
	return control.ExecResult{}, nil
}

// play adds a user.
func (f *fakeMachines) play(m *fakeMachine, name string) error {
	file := filepath.Join(m.dir, "etc/passwd")
	text, _ := os.ReadFile(file)
	if strings.Contains(string(text), name+":") {
		return nil
	}
	return os.WriteFile(file, append(text, fmt.Sprintf("%s:x:2000:2000::/home/%s:/bin/sh\n", name, name)...), 0o644)
}

type writer func(p []byte) error

func (w writer) Write(p []byte) (int, error) { return len(p), w(p) }

func (f *fakeMachines) WriteFile(ctx context.Context, id sandbox.ID, w control.WriteFile, content io.Reader) (int64, error) {
	m, err := f.machine(id)
	if err != nil {
		return 0, err
	}
	full := filepath.Join(m.dir, w.Path)
	if !w.Archive {
		data, err := io.ReadAll(content)
		if err == nil {
			mode := os.FileMode(0o644)
			if w.Mode != nil {
				mode = os.FileMode(*w.Mode)
			}
			err = errors.Join(os.MkdirAll(filepath.Dir(full), 0o755), os.RemoveAll(full), os.WriteFile(full, data, mode|0o600))
		}
		return int64(len(data)), err
	}
	if err := os.MkdirAll(full, 0o755); err != nil {
		return 0, err
	}
	root, err := os.OpenRoot(full)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	_, err = archive.Unpack(ctx, root, content, archive.Unpacking{ForeignLinks: true, KeepDirs: true})
	switch { // as in the guest
	case errors.Is(err, archive.ErrInvalid):
		err = fault.Wrap(err, fault.Invalid, "invalid_archive", "%s; entries before it were written", err)
	case errors.Is(err, archive.ErrIncomplete):
		err = fault.Wrap(err, fault.Invalid, "archive_incomplete", "%s", err)
	}
	return 0, err
}

func (f *fakeMachines) ReadFile(ctx context.Context, id sandbox.ID, r control.ReadFile) (*control.File, error) {
	m, err := f.machine(id)
	if err != nil {
		return nil, err
	}
	full := filepath.Join(m.dir, r.Path)
	fi, err := os.Stat(full)
	if err != nil {
		return nil, fault.New(fault.NotFound, "file_not_found", "no file %s", r.Path)
	}
	if !r.Archive {
		data, err := os.ReadFile(full)
		return &control.File{Body: io.NopCloser(bytes.NewReader(data))}, err
	}
	dir, name := full, "."
	if !fi.IsDir() {
		dir, name = filepath.Dir(full), filepath.Base(full)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	var b bytes.Buffer
	_, err = archive.Pack(ctx, root, name, &b, archive.Packing{})
	return &control.File{Body: io.NopCloser(&b)}, err
}

func (f *fakeMachines) CallFile(_ context.Context, id sandbox.ID, call control.FileCall) (control.FilePage, error) {
	m, err := f.machine(id)
	if err != nil {
		return control.FilePage{}, err
	}
	switch c := call.(type) {
	case control.FileStat:
		if c.Path == "/" && !c.Follow {
			f.set(func() { f.touches[id]++ })
		}
		fi, err := os.Stat(filepath.Join(m.dir, c.Path))
		if err != nil {
			return control.FilePage{}, fault.New(fault.NotFound, "file_not_found", "no file %s", c.Path)
		}
		return control.FilePage{Entries: []control.FileEntry{entryOf(path.Base(c.Path), fi)}}, nil
	case control.FileMakeDir:
		full := filepath.Join(m.dir, c.Path)
		if err := os.MkdirAll(full, 0o755); err != nil {
			return control.FilePage{}, err
		}
		return control.FilePage{}, nil
	case control.FileMove:
		return control.FilePage{}, os.Rename(filepath.Join(m.dir, c.From), filepath.Join(m.dir, c.To))
	case control.FileRemove:
		return control.FilePage{}, os.RemoveAll(filepath.Join(m.dir, c.Path))
	case control.FileList:
		if f.list != nil {
			return f.list(c), nil
		}
		entries, err := os.ReadDir(filepath.Join(m.dir, c.Path))
		if err != nil {
			return control.FilePage{}, fault.New(fault.NotFound, "file_not_found", "no file %s", c.Path)
		}
		var page control.FilePage
		for _, e := range entries {
			fi, err := e.Info()
			if err != nil {
				return page, err
			}
			page.Entries = append(page.Entries, entryOf(e.Name(), fi))
		}
		return page, nil
	}
	return control.FilePage{}, fmt.Errorf("a call of type %T", call)
}

func entryOf(name string, fi os.FileInfo) control.FileEntry {
	t := control.FileRegular
	if fi.IsDir() {
		t = control.FileDirectory
	}
	return control.FileEntry{Name: name, Type: t, Size: fi.Size()}
}

func (f *fakeMachines) CallProcess(_ context.Context, id sandbox.ID, call control.ProcessCall) ([]control.Process, error) {
	if _, err := f.machine(id); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch c := call.(type) {
	case control.ProcessStart:
		p := control.Process{ID: c.ID}
		if text := strings.Join(c.Command.Args, " "); strings.Contains(text, "exit 3") {
			p.Exit = &control.ProcessExit{Code: 3, At: time.Now()}
		}
		f.processes[c.ID] = p
		f.started = append(f.started, c.Command)
		if c.Again != nil {
			f.again = append(f.again, *c.Again)
		}
		return []control.Process{p}, nil
	case control.ProcessGet:
		return []control.Process{f.processes[c.ID]}, nil
	}
	return nil, fmt.Errorf("a call of type %T", call)
}

func (f *fakeMachines) AttachProcess(_ context.Context, _ sandbox.ID, a control.ProcessAttach, sink control.ProcessSink) (control.Process, error) {
	return control.Process{}, sink.Output("stderr", 0, []byte("cannot bind\n"))
}
