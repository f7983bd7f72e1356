package cli_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"time"

	"github.com/wrenn-dev/wrenn/client"
)

// fakeProcess is a process that has run here to its end when it is started. Its first
// byte of output is no longer kept.
type fakeProcess struct {
	client.Process
	sandbox string
	output  []byte
}

func (f *fake) startProcess(w http.ResponseWriter, r *http.Request, sb *client.Sandbox) {
	var in client.ProcessRequest
	if json.NewDecoder(r.Body).Decode(&in) != nil {
		refuse(w, 400, "invalid_json", "the body is not JSON")
		return
	}
	cmd := exec.Command(in.Cmd, in.Args...)
	cmd.Dir = in.Cwd
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		refuse(w, 400, "command_not_found", "there is no program "+in.Cmd)
		return
	}
	now := time.Now().UTC()
	p := &fakeProcess{sandbox: sb.ID, output: out, Process: client.Process{
		Cmd: in.Cmd, Args: in.Args, User: "user", OnFull: "truncate", JournalBytes: 1 << 20, Status: "exited",
		StartedAt: now, EndedAt: &now, ExitCode: ptr(cmd.ProcessState.ExitCode()),
		OutputStart: 1, OutputEnd: int64(len(out)), TruncatedBytes: 1,
	}}
	f.mu.Lock()
	defer f.mu.Unlock()
	p.ID = fmt.Sprintf("process%d", len(f.processes)+1)
	f.processes = append(f.processes, p)
	answer(w, 201, p.Process)
}

func (f *fake) listProcesses(w http.ResponseWriter, _ *http.Request, sb *client.Sandbox) {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := []client.Process{}
	for _, p := range f.processes {
		if p.sandbox == sb.ID {
			list = append(list, p.Process)
		}
	}
	answer(w, 200, list)
}

// found returns the process that r names, or answers that there is none.
func (f *fake) found(w http.ResponseWriter, r *http.Request) *fakeProcess {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.IndexFunc(f.processes, func(p *fakeProcess) bool { return p.ID == r.PathValue("process") })
	if i < 0 {
		refuse(w, 404, "process_not_found", "there is no process with this id")
		return nil
	}
	return f.processes[i]
}

func (f *fake) process(w http.ResponseWriter, r *http.Request, _ *client.Sandbox) {
	if p := f.found(w, r); p != nil {
		answer(w, 200, p.Process)
	}
}

func (f *fake) signal(w http.ResponseWriter, r *http.Request, _ *client.Sandbox) {
	if f.found(w, r) != nil {
		refuse(w, 409, "process_ended", "the process has ended")
	}
}

func (f *fake) attach(w http.ResponseWriter, r *http.Request, _ *client.Sandbox) {
	p := f.found(w, r)
	if p == nil {
		return
	}
	event := func(name string, v any) {
		text, _ := json.Marshal(v)
		fmt.Fprintf(w, "event: %s\ndata: %s\n\n", name, text)
	}
	w.Header().Set("Content-Type", "text/event-stream")
	event("process", p.Process)
	var at int64
	_, _ = fmt.Sscan(r.URL.Query().Get("offset"), &at)
	if at == 0 {
		event("truncated", map[string]int64{"offset": 0, "bytes": 1})
		at = 1
	}
	if middle := int64(len(p.output) / 2); at < middle {
		// The stream breaks off in the middle, as the connection of a laptop.
		event("stdout", map[string]any{"offset": at, "data": string(p.output[at:middle]), "encoding": "utf-8"})
		return
	}
	event("stdout", map[string]any{"offset": at, "data": string(p.output[at:]), "encoding": "utf-8"})
	event("exit", p.Process)
}
