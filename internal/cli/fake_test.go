package cli_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/client"
)

// fake is the REST API without VMs: states change at once, commands run
// here, files are kept in memory. Its answers have the shapes of the OpenAPI
// document.
type fake struct {
	mu        sync.Mutex // protects the following
	sandboxes []*client.Sandbox
	taken     []*client.Snapshot
	files     map[string][]byte // by id + path
	modes     map[string]string
	key       string // wanted of every request; empty is open
	public    []int  // ports of the sandbox created last
	processes []*fakeProcess
	templates fakeTemplates
}

func newFake(t testing.TB) (*fake, string) {
	f := &fake{files: map[string][]byte{}, modes: map[string]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/sandboxes", f.create)
	mux.HandleFunc("GET /v1/sandboxes", f.list)
	mux.HandleFunc("GET /v1/hosts", f.hosts)
	mux.HandleFunc("GET /v1/sandboxes/{id}", f.with(f.read))
	mux.HandleFunc("DELETE /v1/sandboxes/{id}", f.with(f.destroy))
	mux.HandleFunc("POST /v1/sandboxes/{id}/pause", f.move("running", "paused"))
	mux.HandleFunc("POST /v1/sandboxes/{id}/resume", f.move("paused", "running"))
	mux.HandleFunc("POST /v1/sandboxes/{id}/exec", f.with(f.exec))
	mux.HandleFunc("POST /v1/sandboxes/{id}/processes", f.with(f.startProcess))
	mux.HandleFunc("GET /v1/sandboxes/{id}/processes", f.with(f.listProcesses))
	mux.HandleFunc("GET /v1/sandboxes/{id}/processes/{process}", f.with(f.process))
	mux.HandleFunc("GET /v1/sandboxes/{id}/processes/{process}/wait", f.with(f.process))
	mux.HandleFunc("POST /v1/sandboxes/{id}/processes/{process}/signal", f.with(f.signal))
	mux.HandleFunc("GET /v1/sandboxes/{id}/processes/{process}/attach", f.with(f.attach))
	mux.HandleFunc("PUT /v1/sandboxes/{id}/files", f.with(f.put))
	mux.HandleFunc("GET /v1/sandboxes/{id}/files", f.with(f.get))
	mux.HandleFunc("DELETE /v1/sandboxes/{id}/files", f.with(f.removeFile))
	mux.HandleFunc("GET /v1/sandboxes/{id}/files/list", f.with(f.listFiles))
	mux.HandleFunc("POST /v1/sandboxes/{id}/files/move", f.with(f.moveFile))
	mux.HandleFunc("GET /v1/sandboxes/{id}/files/watch", f.with(f.watchFiles))
	mux.HandleFunc("POST /v1/sandboxes/{id}/files/sign", f.with(f.signFile))
	mux.HandleFunc("GET /v1/sandboxes/{id}/files/stat", f.with(f.stat))
	mux.HandleFunc("POST /v1/sandboxes/{id}/files/mkdir", f.with(f.mkdir))
	mux.HandleFunc("GET /v1/sandboxes/{id}/files/tar", f.with(f.pack))
	mux.HandleFunc("POST /v1/sandboxes/{id}/files/tar", f.with(f.unpack))
	mux.HandleFunc("GET /v1/sandboxes/{id}/timeout", f.with(f.timeout))
	mux.HandleFunc("PATCH /v1/sandboxes/{id}/timeout", f.with(f.timeout))
	mux.HandleFunc("GET /v1/sandboxes/{id}/network", f.with(f.network))
	mux.HandleFunc("PUT /v1/sandboxes/{id}/network", f.with(f.network))
	mux.HandleFunc("GET /v1/sandboxes/{id}/traffic", f.with(f.traffic))
	mux.HandleFunc("POST /v1/sandboxes/{id}/ports/{port}", f.with(f.port))
	mux.HandleFunc("POST /v1/sandboxes/{id}/fork", f.with(f.fork))
	mux.HandleFunc("POST /v1/sandboxes/{id}/snapshots", f.with(f.snapshot))
	mux.HandleFunc("GET /v1/snapshots", f.snapshots)
	mux.HandleFunc("DELETE /v1/snapshots/{id}", f.withSnapshot(f.forgetSnapshot))
	mux.HandleFunc("POST /v1/snapshots/{id}/template", f.withSnapshot(f.template))
	mux.HandleFunc("DELETE /v1/snapshots/{id}/template", f.withSnapshot(f.template))
	f.templateRoutes(mux)
	mux.HandleFunc("POST /v1/gc", f.gc)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Request-Id", "req-1")
		if !f.admits(r) {
			refuse(w, 401, "unauthenticated", "an API key is needed")
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	return f, srv.URL
}

// demand makes the server ask for key from now on.
func (f *fake) demand(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.key = key
}

func (f *fake) admits(r *http.Request) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.key == "" || r.Header.Get("Authorization") == "Bearer "+f.key
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	answer(w, status, map[string]any{"error": map[string]string{"code": code, "message": message}})
}

func (f *fake) create(w http.ResponseWriter, r *http.Request) {
	timeout := 300
	in := client.CreateRequest{
		Template: "minimal", VCPUs: 1, MemoryMB: 512, DiskMB: 2048, TimeoutSec: &timeout, OnTimeout: client.OnTimeoutDestroy,
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		refuse(w, 400, "invalid_json", err.Error())
		return
	}
	switch {
	case in.Template == "full":
		w.Header().Set("Retry-After", "5")
		refuse(w, 503, "no_capacity", "no host has room for this sandbox")
		return
	case in.Template != "minimal":
		refuse(w, 404, "template_not_found", "there is no template "+in.Template)
		return
	case in.VCPUs > 8:
		refuse(w, 400, "invalid_vcpus", "vcpus must be from 1 to 8")
		return
	case strings.HasPrefix(in.Hostname, "-"):
		refuse(w, 400, "invalid_name", "hostname must be one label")
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.public = in.PublicPorts
	if in.Name != "" && slices.ContainsFunc(f.sandboxes, func(sb *client.Sandbox) bool {
		return sb.EndedAt == nil && sb.Name != nil && *sb.Name == in.Name
	}) {
		refuse(w, 409, "name_taken", "another sandbox has this name")
		return
	}
	now := time.Now().UTC()
	sb := &client.Sandbox{
		ID: fmt.Sprintf("sandbox%d", len(f.sandboxes)+1), Status: "running", Template: in.Template,
		EgressDeny: in.EgressDeny, EgressAllow: in.EgressAllow,
		VCPUs: in.VCPUs, MemoryMB: in.MemoryMB, DiskMB: in.DiskMB, TimeoutSec: *in.TimeoutSec,
		GuestIP: "169.254.0.21", HostIP: "10.11.0.6", HostID: "local", Runtime: "microvm", Acceleration: "kvm", Isolation: "hardware",
		CreatedAt: now, StartedAt: &now, LastActiveAt: &now, LastUpdated: now, Metadata: in.Metadata,
		LifetimeSec: in.LifetimeSec, OnTimeout: in.OnTimeout, AutoResume: in.AutoResume, Source: ptr("pool"),
		RestoreReport: &client.RestoreReport{
			Generation: 1, At: now, ClockStepMS: 1200, ClockSkewMS: 0.25, Reseeded: true, NewIdentity: true, VMGeneration: "none",
		},
	}
	sb.Hostname = cmp.Or(in.Hostname, "wrenn-"+sb.ID)
	if in.Name != "" {
		sb.Name = &in.Name
	}
	if in.SnapshotID != "" {
		sb.SnapshotID = &in.SnapshotID
	}
	wind(sb)
	f.sandboxes = append(f.sandboxes, sb)
	answer(w, 201, sb)
}

func ptr[T any](v T) *T { return &v }

// wind sets the clocks of a running sandbox from its other fields.
func wind(sb *client.Sandbox) {
	sb.Clocks = client.Clocks{
		CommandTimeoutSec: 30, IdleTimeoutSec: sb.TimeoutSec, LifetimeSec: sb.LifetimeSec,
		OnTimeout: sb.OnTimeout, AutoResume: sb.AutoResume,
	}
	now := time.Now()
	if sb.TimeoutSec > 0 {
		sb.Clocks.IdleExpiresAt = ptr(now.Add(time.Duration(sb.TimeoutSec) * time.Second))
	}
	if sb.LifetimeSec > 0 {
		sb.Clocks.LifetimeExpiresAt = ptr(now.Add(time.Duration(sb.LifetimeSec) * time.Second))
	}
}

func (f *fake) list(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	status, template := r.URL.Query().Get("status"), r.URL.Query().Get("template")
	out := []*client.Sandbox{}
	for _, sb := range slices.Backward(f.sandboxes) {
		if (status == "" || slices.Contains(strings.Split(status, ","), sb.Status)) && (template == "" || template == sb.Template) && matches(sb, r.URL.Query()) {
			out = append(out, sb)
		}
	}
	answer(w, 200, out)
}

// matches reports whether sb has the name and the metadata in q.
func matches(sb *client.Sandbox, q url.Values) bool {
	if name := q.Get("name"); name != "" && (sb.Name == nil || *sb.Name != name) {
		return false
	}
	for param := range q {
		if key, ok := strings.CutPrefix(param, "metadata."); ok && sb.Metadata[key] != q.Get(param) {
			return false
		}
	}
	return true
}

// with finds the sandbox named in the path.
func (f *fake) with(h func(http.ResponseWriter, *http.Request, *client.Sandbox)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		i := slices.IndexFunc(f.sandboxes, func(sb *client.Sandbox) bool { return sb.ID == r.PathValue("id") })
		var sb *client.Sandbox
		if i >= 0 {
			sb = f.sandboxes[i]
		}
		f.mu.Unlock()
		if sb == nil {
			refuse(w, 404, "sandbox_not_found", "there is no sandbox with the id "+r.PathValue("id"))
			return
		}
		h(w, r, sb)
	}
}

func (f *fake) read(w http.ResponseWriter, _ *http.Request, sb *client.Sandbox) {
	f.mu.Lock()
	defer f.mu.Unlock()
	answer(w, 200, sb)
}

func (f *fake) destroy(w http.ResponseWriter, _ *http.Request, sb *client.Sandbox) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now, reason := time.Now().UTC(), "destroyed"
	sb.Status, sb.StopReason, sb.EndedAt = "stopped", &reason, &now
	w.WriteHeader(204)
}

func (f *fake) move(from, to string) http.HandlerFunc {
	return f.with(func(w http.ResponseWriter, _ *http.Request, sb *client.Sandbox) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if sb.Status != from {
			refuse(w, 409, "sandbox_not_"+from, "the sandbox is "+sb.Status+", not "+from)
			return
		}
		sb.Status = to
		answer(w, 200, sb)
	})
}

func (f *fake) exec(w http.ResponseWriter, r *http.Request, sb *client.Sandbox) {
	var in struct {
		Cmd, Cwd, User, Stdin string
		Args                  []string
		Env                   map[string]string
		StdinEncoding         string `json:"stdin_encoding"`
		TimeoutSec            int    `json:"timeout_sec"`
	}
	lines := bufio.NewReader(r.Body)
	first, _ := lines.ReadBytes('\n')
	if err := json.Unmarshal(first, &in); err != nil {
		refuse(w, 400, "invalid_json", err.Error())
		return
	}
	if f.refusesCommand(w, in.Cmd) {
		return
	}
	f.mu.Lock()
	status := sb.Status
	f.mu.Unlock()
	if status != "running" {
		refuse(w, 409, "sandbox_not_running", "the sandbox is "+status+", not running")
		return
	}
	ctx := r.Context()
	if in.TimeoutSec == 1 { // the tests' shortest timeout ends at once
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
	}
	cmd := exec.CommandContext(ctx, in.Cmd, in.Args...)
	// As in a guest, the processes that the command started end with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Dir, cmd.Env = in.Cwd, []string{"PATH=" + os.Getenv("PATH")}
	for k, v := range in.Env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	stdin, _ := base64.StdEncoding.DecodeString(in.Stdin)
	cmd.Stdin = bytes.NewReader(stdin)
	if r.Header.Get("Content-Type") == "application/x-ndjson" {
		rc := http.NewResponseController(w)
		_ = rc.EnableFullDuplex()
		defer feed(cmd, lines, rc)()
	}
	if r.Header.Get("Accept") == "application/x-ndjson" {
		stream(ctx, w, cmd, in.Env[outOfMemory] != "")
		return
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	code := exitCode(cmd.Run())
	answer(w, 200, map[string]any{
		"sandbox_id": sb.ID, "cmd": in.Cmd, "stdout": stdout.String(), "stderr": stderr.String(), "encoding": "utf-8",
		"exit_code": code, "signal": nil, "oom": in.Env[outOfMemory] != "", "duration_ms": 31, "stdout_truncated": false, "stderr_truncated": false,
	})
}

func exitCode(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	default:
		return 127
	}
}

// events writes output as lines of a streamed exec.
type events struct {
	mu  *sync.Mutex
	w   http.ResponseWriter
	typ string
}

func (e events) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	_ = json.NewEncoder(e.w).Encode(map[string]string{
		"type": e.typ, "data": base64.StdEncoding.EncodeToString(p), "encoding": "base64",
	})
	e.w.(http.Flusher).Flush()
	return len(p), nil
}

// refusesCommand answers for commands that cannot be started.
func (f *fake) refusesCommand(w http.ResponseWriter, name string) bool {
	_, err := exec.LookPath(name)
	switch {
	case errors.Is(err, fs.ErrPermission):
		refuse(w, 400, "command_not_executable", "command '"+name+"' cannot be executed")
	case err != nil:
		refuse(w, 400, "command_not_found", "command '"+name+"' was not found")
	}
	return err != nil
}

// feed passes the stdin in lines on to cmd, until end is called or the body ends. As
// in the server, a read of the body that waits is not cut off: net/http would reset
// the connection, and the caller could lose the answer.
func feed(cmd *exec.Cmd, lines *bufio.Reader, rc *http.ResponseController) (end func()) {
	r, w, _ := os.Pipe()
	cmd.Stdin = r
	ended := make(chan struct{})
	go func() {
		defer w.Close()
		for {
			line, err := lines.ReadBytes('\n')
			var e struct{ Data []byte }
			if len(line) > 0 && json.Unmarshal(line, &e) == nil {
				if _, err := w.Write(e.Data); err != nil {
					return // end was called
				}
			}
			switch {
			case err == io.EOF:
				return
			case err != nil: // a broken body is no end of stdin
				<-ended
				return
			}
		}
	}()
	return func() {
		close(ended)
		_ = r.Close() // ends a write
		_ = rc.SetReadDeadline(time.Now().Add(5 * time.Second))
	}
}

// outOfMemory is an environment variable of commands, which count with it as ended for
// lack of memory.
const outOfMemory = "FAKE_OUT_OF_MEMORY"

// stream runs cmd, which ends with ctx, and answers with its events. The last says
// whether it was ended for lack of memory.
func stream(ctx context.Context, w http.ResponseWriter, cmd *exec.Cmd, oom bool) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	var mu sync.Mutex
	cmd.Stdout, cmd.Stderr = events{&mu, w, "stdout"}, events{&mu, w, "stderr"}
	code := exitCode(cmd.Run())
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		_ = json.NewEncoder(w).Encode(map[string]any{"type": "error", "error": map[string]string{
			"code": "exec_timeout", "message": "the command was killed",
		}})
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"type": "exit", "exit_code": code, "signal": nil, "oom": oom, "duration_ms": 31})
}

// dirs are the directories that every fake sandbox has.
var dirs = []string{"/", "/tmp", "/root"}

func (f *fake) put(w http.ResponseWriter, r *http.Request, sb *client.Sandbox) {
	at := r.URL.Query().Get("path")
	if slices.Contains(dirs, path.Clean(at)) {
		refuse(w, 400, "is_directory", at+" is a directory")
		return
	}
	content, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.files[sb.ID+at], f.modes[sb.ID+at] = content, r.URL.Query().Get("mode")
	w.WriteHeader(204)
}

func (f *fake) get(w http.ResponseWriter, r *http.Request, sb *client.Sandbox) {
	at := r.URL.Query().Get("path")
	f.mu.Lock()
	content, ok := f.files[sb.ID+at]
	if of, isMode := strings.CutSuffix(at, "?mode"); isMode { // for scripts to look at
		content, ok = []byte(f.modes[sb.ID+of]), true
	}
	f.mu.Unlock()
	if st, err := os.Stat(at); !ok && err == nil { // commands see the files here, too
		if st.IsDir() {
			refuse(w, 400, "is_directory", at+" is a directory")
			return
		}
		content, err = os.ReadFile(at)
		ok = err == nil
	}
	if !ok {
		refuse(w, 404, "file_not_found", "there is no file "+at)
		return
	}
	w.Header().Set("Content-Disposition", `attachment; filename="`+path.Base(at)+`"`)
	_, _ = w.Write(content)
}

func (f *fake) hosts(w http.ResponseWriter, _ *http.Request) {
	now := time.Now().UTC()
	answer(w, 200, []client.Host{{
		ID: "local", Driver: "qemu", DriverVersion: "10.0.2", Acceleration: "kvm", Isolation: "hardware", MultiTenant: true,
		Runtimes: []client.HostRuntime{
			{Runtime: "microvm", Isolation: "hardware", Acceleration: "kvm"}, {Runtime: "gvisor", Isolation: "userspace_kernel", Acceleration: "systrap"},
		},
		VCPUs: 8, MemoryMB: 16384, DiskTotalBytes: 1 << 40, DiskFreeBytes: 300 << 30, DiskRoomMB: ptr(int64(250 << 10)),
		Limits:    client.HostLimits{MaxVCPUs: 8, MinMemoryMB: 128, MaxMemoryMB: 8192},
		Templates: []string{"minimal"}, Reachable: true, SeenAt: &now,
		Pools: []client.Pool{{Template: "minimal", VCPUs: 1, MemoryMB: 512, DiskMB: 2048, Target: 4, Ready: 3}},
	}})
}
