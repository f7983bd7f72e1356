package e2b

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// fake is a control plane with one sandbox. Calls that a test does not expect panic.
type fake struct {
	API
	row control.Sandbox
	// calls are the changes that were asked for, in order.
	calls []string
	// pause, snapshot, resume and fork are the outcomes of these operations.
	pause, snapshot error
	resume          func(*fake) error
	fork            control.Forked
	// looks is the number of reads; after the third the state becomes later.
	looks int
	later sandbox.State
}

func (f *fake) Get(_ context.Context, id sandbox.ID) (control.Sandbox, error) {
	if f.looks++; f.looks > 3 && f.later != "" {
		f.row.State = f.later
	}
	return f.row, nil
}

func (f *fake) Pause(context.Context, sandbox.ID) (control.Sandbox, error) {
	f.calls = append(f.calls, "pause")
	return f.row, f.pause
}

func (f *fake) ForcePause(context.Context, sandbox.ID) (control.Sandbox, error) {
	f.calls = append(f.calls, "force pause")
	return f.row, nil
}

func (f *fake) PauseDisk(context.Context, sandbox.ID) (control.Sandbox, error) {
	f.calls = append(f.calls, "pause disk")
	return f.row, f.pause
}

func (f *fake) CreateSnapshot(_ context.Context, id sandbox.ID, n control.NewSnapshot) (control.Snapshot, error) {
	f.calls = append(f.calls, fmt.Sprintf("snapshot %q, disk only %t, force %t", n.Name, n.DiskOnly, n.Force))
	return control.Snapshot{ID: "snap", Name: n.Name, DiskOnly: n.DiskOnly}, f.snapshot
}

func (f *fake) Reboot(ctx context.Context, id sandbox.ID) (control.Sandbox, error) {
	f.calls = append(f.calls, "reboot")
	f.row.State, f.row.DiskOnly = sandbox.Running, false
	return f.row, nil
}

func (f *fake) Destroy(context.Context, sandbox.ID) error {
	f.calls = append(f.calls, "destroy")
	return nil
}

func (f *fake) Resume(context.Context, sandbox.ID) (control.Sandbox, error) {
	f.calls = append(f.calls, "resume")
	if f.resume != nil {
		if err := f.resume(f); err != nil {
			return control.Sandbox{}, err
		}
	}
	f.row.State = sandbox.Running
	return f.row, nil
}

func (f *fake) SetTimeouts(_ context.Context, _ sandbox.ID, c control.ClockRequest) (control.Sandbox, error) {
	if c.Lifetime != nil {
		f.calls = append(f.calls, "lifetime "+c.Lifetime.String())
		end := time.Now().Add(*c.Lifetime)
		f.row.Spec.Lifetime, f.row.LifetimeEndsAt = *c.Lifetime, &end
	}
	return f.row, nil
}

func (f *fake) SetEgress(_ context.Context, _ sandbox.ID, limits sandbox.Egress) (control.Sandbox, error) {
	deny, allow := limits.Strings()
	f.calls = append(f.calls, fmt.Sprintf("egress %v %v", deny, allow))
	f.row.Spec.Egress = limits
	return f.row, nil
}

func (f *fake) Create(_ context.Context, n control.NewSandbox) (control.Sandbox, error) {
	spec, err := n.Spec.Complete(nil)
	if err != nil {
		return control.Sandbox{}, err
	}
	f.calls = append(f.calls, "create")
	f.row.Spec = spec
	return f.row, nil
}

func (f *fake) Fork(context.Context, sandbox.ID, control.Fork) (control.Forked, error) {
	return f.fork, nil
}

// box returns a fake with a sandbox in a state, made for ten minutes, five of which are
// left.
func box(state sandbox.State) *fake {
	end := time.Now().Add(5 * time.Minute)
	return &fake{row: control.Sandbox{
		ID: "box", State: state, CreatedAt: time.Now(), UpdatedAt: time.Now(), LifetimeEndsAt: &end,
		Spec: sandbox.Spec{Template: sandbox.DefaultTemplate, Lifetime: 30 * time.Second, InitialLifetime: 10 * time.Minute, TrafficKey: "key"},
	}}
}

// send sends a request to f and checks the status of the answer and the changes that f
// was asked for, with commas between them.
func (f *fake) send(t *testing.T, method, path, body string, status int, calls string) map[string]any {
	t.Helper()
	h := New(Config{
		Sandboxes: f, Next: http.NotFoundHandler(), Log: quiet(),
		Enter: anyone,
	})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	if got := strings.Join(f.calls, ", "); w.Code != status || got != calls {
		t.Errorf("%s %s %s: %d %s after %q, want %d after %q", method, path, body, w.Code, w.Body, got, status, calls)
	}
	out := make(map[string]any)
	_ = json.Unmarshal(w.Body.Bytes(), &out) // an answer may be no object
	return out
}

// anyone admits every request.
func anyone(r *http.Request) (context.Context, error) { return r.Context(), nil }
