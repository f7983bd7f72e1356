package cli_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/wrenn-dev/wrenn/client"
)

// timeout shows the clocks of a sandbox, after changing those that the body names.
func (f *fake) timeout(w http.ResponseWriter, r *http.Request, sb *client.Sandbox) {
	var in client.TimeoutRequest
	if r.Method == http.MethodPatch {
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			refuse(w, 400, "invalid_json", err.Error())
			return
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case in.ExtendSec != nil && sb.LifetimeSec == 0:
		refuse(w, 409, "no_lifetime", "the sandbox has no lifetime that could be extended")
		return
	case in.ExtendSec != nil:
		sb.LifetimeSec += *in.ExtendSec
	case in.LifetimeSec != nil:
		sb.LifetimeSec = *in.LifetimeSec
	}
	if in.TimeoutSec != nil {
		sb.TimeoutSec = *in.TimeoutSec
	}
	if in.OnTimeout != nil {
		sb.OnTimeout = *in.OnTimeout
	}
	if in.AutoResume != nil {
		sb.AutoResume = *in.AutoResume
	}
	wind(sb)
	answer(w, 200, sb.Clocks)
}

// fork makes copies, of which the fourth finds no room.
func (f *fake) fork(w http.ResponseWriter, r *http.Request, sb *client.Sandbox) {
	in := client.ForkRequest{Count: 1}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		refuse(w, 400, "invalid_json", err.Error())
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	out := client.Forked{Sandboxes: []client.Sandbox{}, Failed: []client.FailedFork{}, PauseWindowMS: 41.237}
	for i := range in.Count {
		if i == 3 {
			out.Failed = append(out.Failed, client.FailedFork{ID: "failed4", Code: "no_memory", Message: "the host is full"})
			continue
		}
		child := *sb
		child.ID, child.ParentID = fmt.Sprintf("sandbox%d", len(f.sandboxes)+1), &sb.ID
		child.Source, child.Metadata = ptr("fork"), in.Metadata
		f.sandboxes = append(f.sandboxes, &child)
		out.Sandboxes = append(out.Sandboxes, child)
	}
	answer(w, 201, out)
}

func (f *fake) snapshot(w http.ResponseWriter, r *http.Request, sb *client.Sandbox) {
	var in client.SnapshotRequest
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		refuse(w, 400, "invalid_json", err.Error())
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	snap := &client.Snapshot{
		ID: fmt.Sprintf("snap%d", len(f.taken)+1), Name: in.Name, SandboxID: sb.ID, HostID: "local", Template: sb.Template,
		VCPUs: sb.VCPUs, MemoryMB: sb.MemoryMB, DiskMB: sb.DiskMB, Status: "ready", Bytes: 20 << 20,
		PauseWindowMS: 40, CreatedAt: time.Now(), Metadata: in.Metadata, Memory: in.Memory == nil || *in.Memory,
	}
	f.taken = append(f.taken, snap)
	answer(w, 201, snap)
}

func (f *fake) snapshots(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := []*client.Snapshot{}
	for _, snap := range slices.Backward(f.taken) {
		if name := r.URL.Query().Get("name"); name == "" || name == snap.Name {
			out = append(out, snap)
		}
	}
	answer(w, 200, out)
}

// withSnapshot finds the snapshot named in the path, and holds mu.
func (f *fake) withSnapshot(h func(http.ResponseWriter, *http.Request, *client.Snapshot)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, snap := range f.taken {
			if snap.ID == r.PathValue("id") {
				h(w, r, snap)
				return
			}
		}
		refuse(w, 404, "snapshot_not_found", "there is no snapshot with the id "+r.PathValue("id"))
	}
}

func (f *fake) forgetSnapshot(w http.ResponseWriter, _ *http.Request, snap *client.Snapshot) {
	if snap.TemplateName != nil {
		refuse(w, 409, "snapshot_is_template", "the snapshot is the template "+*snap.TemplateName)
		return
	}
	f.taken = slices.DeleteFunc(f.taken, func(s *client.Snapshot) bool { return s == snap })
	w.WriteHeader(204)
}

func (f *fake) template(w http.ResponseWriter, r *http.Request, snap *client.Snapshot) {
	snap.TemplateName = nil
	if r.Method == http.MethodDelete {
		w.WriteHeader(204)
		return
	}
	var in struct{ Name string }
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		refuse(w, 400, "invalid_json", err.Error())
		return
	}
	if in.Name == "minimal" {
		refuse(w, 409, "template_exists", "there is a template with this name")
		return
	}
	snap.TemplateName = &in.Name
	answer(w, 200, snap)
}

func (f *fake) gc(w http.ResponseWriter, r *http.Request) {
	in := client.GCRequest{DryRun: true}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		refuse(w, 400, "invalid_json", err.Error())
		return
	}
	answer(w, 200, client.Garbage{DryRun: in.DryRun, Bytes: 3 << 20, Items: []client.GarbageItem{
		{HostID: "local", Kind: "build", ID: "b1", Bytes: 3 << 20, Reason: "left by a build that broke off"},
	}})
}
