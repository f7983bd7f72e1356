package e2b

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// The timeouts, in seconds, of creates that give none.
const (
	defaultTimeoutV1 = 15
	defaultTimeout   = 300
)

// newSandbox is the schema NewSandbox of both generations. The field mcp is for the
// client's own use.
type newSandbox struct {
	TemplateID      string            `json:"templateID"`
	Timeout         *int              `json:"timeout"`
	Metadata        map[string]string `json:"metadata"`
	EnvVars         map[string]string `json:"envVars"`
	AllowInternet   *bool             `json:"allow_internet_access"`
	Network         *networkConfig    `json:"network"`
	IAM             json.RawMessage   `json:"iam"`
	AutoPause       *bool             `json:"autoPause"`
	AutoPauseMemory *bool             `json:"autoPauseMemory"`
	AutoResume      *struct {
		Enabled bool `json:"enabled"`
	} `json:"autoResume"`
	VolumeMounts []json.RawMessage `json:"volumeMounts"`
}

// createSandbox serves a create whose timeout is defaultSec if it gives none.
func (s *server) createSandbox(defaultSec int) handlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		var in newSandbox
		if err := readJSON(w, r, &in); err != nil {
			return err
		}
		n, err := in.request(defaultSec)
		if err != nil {
			return err
		}
		row, err := s.createFrom(r.Context(), in.TemplateID, n)
		if err != nil {
			return err
		}
		writeJSON(w, http.StatusCreated, s.sandboxOf(row))
		return nil
	}
}

// createFrom creates a sandbox from the template or the snapshot ref. The control plane
// finds most templates by name itself, without a question to a host.
func (s *server) createFrom(ctx context.Context, ref string, n control.NewSandbox) (control.Sandbox, error) {
	names := []string{ref}
	switch {
	case isID(ref) || !sandbox.ValidTemplateName(ref):
		names = nil
	case ref == baseTemplate:
		names = append(names, sandbox.DefaultTemplate)
	}
	for _, name := range names {
		n.Spec.Template = &name
		row, err := s.Sandboxes.Create(ctx, n)
		if fault.ReasonOf(err) != reasonNoTemplate {
			return row, err
		}
	}
	from, err := s.resolve(ctx, ref)
	if err != nil {
		return control.Sandbox{}, err
	}
	n.Spec.Template = nil
	switch {
	case from.snapshot != "":
		n.SnapshotID = from.snapshot
	case from.isBuilt():
		name := from.reference()
		n.Spec.Template = &name
	default:
		n.Spec.Template = &from.image
	}
	return s.Sandboxes.Create(ctx, n)
}

// request returns the request to the control plane, without its template.
func (in newSandbox) request(defaultSec int) (n control.NewSandbox, err error) {
	switch {
	case in.TemplateID == "":
		return n, invalid("templateID is required")
	case isOn(in.AutoPauseMemory, true) || in.AutoPauseMemory == nil:
	case !isOn(in.AutoPause, false):
		return n, invalid("autoPauseMemory can be given only with autoPause")
	case in.AutoResume != nil && in.AutoResume.Enabled:
		return n, invalid("autoPauseMemory must not be false together with autoResume: a sandbox without memory is not resumed by use")
	default:
		n.Spec.PauseDiskOnly = true
	}
	if err := in.unsupported(); err != nil {
		return n, err
	}
	if n.Spec.Egress, err = in.Network.egress(isOn(in.AllowInternet, true)); err != nil {
		return n, err
	}
	sec := defaultSec
	if in.Timeout != nil {
		sec = *in.Timeout
	}
	if sec <= 0 {
		return n, invalid("timeout must be at least 1 second")
	}
	lifetime, err := seconds(sec)
	if err != nil {
		return n, err
	}
	idle, action := time.Duration(0), sandbox.TimeoutDestroy
	if isOn(in.AutoPause, false) {
		action = sandbox.TimeoutPause
	}
	autoResume := in.AutoResume != nil && in.AutoResume.Enabled
	n.Metadata, n.Spec.Env = in.Metadata, in.EnvVars
	n.Spec.PublicTraffic, n.Spec.RequestHost = in.Network.public(), in.Network.requestHost()
	n.Spec.HTTPSPorts = in.Network.httpsPorts()
	n.Spec.Clocks = control.ClockRequest{Idle: &idle, Lifetime: &lifetime, OnTimeout: &action, AutoResume: &autoResume}
	return n, nil
}

// unsupported refuses settings that no host can carry out.
func (in newSandbox) unsupported() error {
	if len(in.VolumeMounts) > 0 {
		return invalid("volumes are not supported: leave out volumeMounts")
	}
	if given(in.IAM) {
		return invalid("workload identities are not supported: leave out iam")
	}
	return in.Network.unsupported()
}

// isOn returns the value of an optional field.
func isOn(b *bool, unset bool) bool {
	if b == nil {
		return unset
	}
	return *b
}

// given reports whether a field has a value that asks for something.
func given(raw json.RawMessage) bool {
	switch string(raw) {
	case "", "null", "{}", "[]", `""`:
		return false
	default:
		return true
	}
}

// seconds returns the time of a timeout.
func seconds(n int) (time.Duration, error) {
	if n > sandbox.MaxTimeoutSec {
		return 0, invalid("Timeout cannot be greater than %d hours", sandbox.MaxTimeoutSec/3600)
	}
	return time.Duration(n) * time.Second, nil
}
