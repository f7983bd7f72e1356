package templates

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/templates/plan"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

const (
	// attempts is how often a build is tried when machines or hosts fail. Each attempt
	// starts from the last layer of the one before.
	attempts = 3
	// layerWork is how much work since the last layer makes another one worth its
	// snapshot.
	layerWork = time.Second
)

// retryDelay is the time before another attempt.
var retryDelay = 3 * time.Second

// builder carries out one build. One goroutine uses it.
type builder struct {
	*Service
	job    *job
	build  Build
	plan   plan.Plan
	inputs Inputs
	log    *buildLog
	// template is the name of the template.
	template string

	stages   []*stage
	machines []sandbox.ID
	indexes  map[string]*index
	bases    map[plan.Base]base
	// step counts the finished steps of steps.
	step, steps int
}

func newBuilder(s *Service, j *job) *builder {
	return &builder{
		Service: s, job: j, build: j.build, plan: j.run.Plan, inputs: j.inputs,
		log: newBuildLog(j.build.ID, s.Store.AppendLogs, s.notify, j.inputs.Secrets),
	}
}

// perform carries out the build to its end. If ctx ends because the server stops, the
// build stays Building, for the next server.
func (b *builder) perform(ctx context.Context) error {
	defer b.cleanUp()
	if b.job.orphan && b.job.run.HasInputs {
		return b.fail(ctx, failed("", "the server was restarted, and the secrets and credentials of the build are gone; build again"))
	}
	if b.job.orphan {
		b.log.add("warn", "", "the server was restarted; the build continues from its last layer")
	}
	for _, note := range b.plan.Notes {
		if !b.job.orphan {
			b.log.add("warn", "", "%s", note)
		}
	}
	t, err := b.Store.GetTemplate(ctx, string(b.build.Template))
	if err != nil {
		return b.fail(ctx, err)
	}
	b.template = t.Name
	for n := 1; ; n++ {
		err := b.attempt(ctx)
		var f *failure
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return b.ended(ctx)
		case errors.As(err, &f) || n == attempts:
			return b.fail(ctx, err)
		}
		b.Log.Warn("an attempt of a build failed", "build", b.build.ID, "attempt", n, "err", err)
		b.log.add("warn", "", "%s; the build is tried again from its last layer", fault.As(err).Public)
		b.cleanUp()
		if err := wait(ctx, time.Duration(n)*retryDelay, nil); err != nil {
			return b.ended(ctx)
		}
	}
}

// ended handles the end of ctx: a canceled build has its reason in the store, and one
// that the stop of the server interrupts goes on under the next.
func (b *builder) ended(ctx context.Context) error {
	cause := context.Cause(ctx)
	if errors.Is(cause, errCanceled) || errors.Is(cause, errSuperseded) || errors.Is(cause, errDeleted) {
		b.log.add("error", "", "%s", cause)
	}
	return nil
}

// fail ends the build with the reason of err.
func (b *builder) fail(ctx context.Context, err error) error {
	r := reasonOf(err)
	r.Message = b.log.mask(r.Message)
	b.log.add("error", r.Step, "%s", r.Message)
	b.log.sync()
	_, storeErr := b.Store.FailBuild(context.WithoutCancel(ctx), b.build.ID, r)
	var f *failure
	if errors.As(err, &f) {
		err = nil
	}
	return errors.Join(err, storeErr)
}

// cleanUp destroys the machines.
func (b *builder) cleanUp() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for _, id := range b.machines {
		if err := b.Machines.Destroy(ctx, id); err != nil && !fault.Is(err, fault.NotFound) {
			b.Log.Warn("a machine of a build could not be destroyed", "build", b.build.ID, "machine", id, "err", err)
		}
	}
	b.machines = nil
}

// attempt carries out the build once.
func (b *builder) attempt(ctx context.Context) error {
	b.stages, b.indexes, b.bases, b.step, b.steps = nil, map[string]*index{}, map[plan.Base]base{}, 0, 0
	if err := b.resolve(ctx); err != nil {
		return err
	}
	last := b.stages[len(b.stages)-1]
	m, err := last.machine(ctx)
	if err != nil {
		return err
	}
	return b.finish(ctx, last, m)
}

// resolve reads the bases and computes states and keys of all stages. Nothing runs yet.
func (b *builder) resolve(ctx context.Context) error {
	for i, s := range b.plan.Stages {
		st := &stage{builder: b, number: i + 1, steps: s.Steps}
		if i == len(b.plan.Stages)-1 && b.plan.GuestUser {
			st.steps = append([]plan.Step{{ID: baseStep, Text: "USER user", User: &plan.User{Name: guestUser, Create: true}}}, st.steps...)
		}
		if s.From.Stage > 0 {
			parent := b.stages[s.From.Stage-1]
			st.base, st.inherited = parent.base, parent
			parent.extended = true
		} else {
			base, err := b.baseOf(ctx, s.From)
			if err != nil {
				return err
			}
			st.base = base
		}
		if err := st.plan(ctx); err != nil {
			return err
		}
		b.stages = append(b.stages, st)
		b.steps += len(st.steps)
	}
	return nil
}

// progress writes how far the build is.
func (b *builder) progress(ctx context.Context) {
	if err := b.Store.Progress(ctx, b.build.ID, min(b.step, b.steps), b.steps); err != nil && ctx.Err() == nil {
		if fault.Is(err, fault.WrongState) || fault.Is(err, fault.NotFound) {
			b.job.end(errCanceled) // another server has ended it
			return
		}
		b.Log.Warn("the progress of a build could not be written", "build", b.build.ID, "err", err)
	}
	b.notify()
}

// create makes a machine, which is destroyed when the attempt ends.
func (b *builder) create(ctx context.Context, m control.NewMachine) (control.Sandbox, error) {
	m.Build, m.VCPUs, m.MemoryMB, m.DiskMB, m.Runtime = string(b.build.ID), b.build.VCPUs, b.build.MemoryMB, b.build.DiskMB, b.build.Runtime
	row, err := b.Machines.CreateMachine(ctx, m)
	if row.ID != "" {
		b.machines = append(b.machines, row.ID)
	}
	return row, err
}

// release destroys a machine that is needed no more.
func (b *builder) release(ctx context.Context, id sandbox.ID) {
	if err := b.Machines.Destroy(ctx, id); err != nil {
		return // cleanUp repeats it
	}
	for i, m := range b.machines {
		if m == id {
			b.machines = append(b.machines[:i], b.machines[i+1:]...)
			return
		}
	}
}

// base is the start of a stage.
type base struct {
	key string
	// image and hostID, or snapshot, are those of a new machine.
	image    string
	hostID   string
	snapshot sandbox.SnapshotID
	state    state
	// start is the start command of an image.
	start []string
}

// baseOf resolves a base that is no stage, once.
func (b *builder) baseOf(ctx context.Context, from plan.Base) (base, error) {
	if known, ok := b.bases[from]; ok {
		return known, nil
	}
	var out base
	var err error
	switch {
	case from.Image != "":
		out, err = b.imageBase(ctx, from)
	case from.Archive != "":
		out, err = b.archiveBase(ctx, from)
	case from.Template != "":
		out, err = b.templateBase(ctx, from.Template)
	default:
		out, err = b.imported(ctx, "scratch", control.ImageSource{}, emptyImage())
	}
	if err == nil {
		b.bases[from] = out
	}
	return out, err
}

// imageBase imports an image of a registry.
func (b *builder) imageBase(ctx context.Context, from plan.Base) (base, error) {
	c := b.inputs.credentials(from.Image)
	return b.imported(ctx, from.Image, control.ImageSource{Reference: from.Image, Username: c.Username, Password: c.Password}, nil)
}

// credentials returns those for the registry of an image.
func (in Inputs) credentials(reference string) Credentials {
	host, _, found := strings.Cut(reference, "/")
	if !found || !strings.ContainsAny(host, ".:") && host != "localhost" {
		host = "docker.io"
	}
	if c, ok := in.Registries[host]; ok {
		return c
	}
	return in.Registry
}

// archiveBase imports an uploaded archive of an image.
func (b *builder) archiveBase(ctx context.Context, from plan.Base) (base, error) {
	f, err := b.blobs.open(b.build.Template, from.Archive)
	if err != nil {
		return base{}, atStep(baseStep, "the archive of the base image", err)
	}
	defer f.Close()
	return b.imported(ctx, "the uploaded archive", control.ImageSource{}, f)
}

// imported imports an image on a host.
func (b *builder) imported(ctx context.Context, name string, src control.ImageSource, content io.Reader) (base, error) {
	b.log.add("info", baseStep, "[base] FROM %s", name)
	img, host, err := b.Machines.ImportImage(ctx, "", src, content, b.importProgress())
	if err != nil {
		return base{}, atStep(baseStep, "FROM "+name, err)
	}
	out := base{key: digest("image", img.Name, img.Digest), image: img.Name, hostID: host}
	for _, kv := range img.Env {
		if v, ok := variableOf(kv); ok {
			out.state.env = set(out.state.env, v)
		}
	}
	if b.plan.ImageSettings {
		out.state.user, out.state.workdir = orText(img.User, "root"), orText(img.Workdir, "/")
		out.start = append(append(out.start, img.Entrypoint...), img.Cmd...)
	}
	return out, nil
}

// orText returns s, or other if that is empty.
func orText(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// importProgress returns a function that logs the progress of an import, a line for
// each stage and for each few seconds.
func (b *builder) importProgress() func(control.ImageProgress) {
	var stage string
	var at time.Time
	return func(p control.ImageProgress) {
		if p.Stage == stage && time.Since(at) < 3*time.Second {
			return
		}
		stage, at = p.Stage, time.Now()
		text := p.Stage
		if p.Detail != "" {
			text += " " + p.Detail
		}
		if p.Total > 0 {
			text += fmt.Sprintf(" (%d of %d MB)", p.Done/1e6, p.Total/1e6)
		}
		b.log.add("info", baseStep, "[base] %s", text)
	}
}

// templateBase resolves a template: an image of the hosts, a built template or a
// snapshot, in this order.
func (b *builder) templateBase(ctx context.Context, ref string) (base, error) {
	b.log.add("info", baseStep, "[base] FROM template %s", ref)
	hosts, err := b.Machines.Hosts(ctx)
	if err != nil {
		return base{}, err
	}
	for _, h := range hosts {
		for _, name := range h.Templates {
			if name == ref || name+":"+DefaultTag == ref {
				return base{key: digest("built-in", name, h.AgentVersion, h.GuestVersion), image: name}, nil
			}
		}
	}
	t, build, err := b.Resolve(ctx, ref)
	switch {
	case err == nil && build.Status != Ready:
		return base{}, failed(baseStep, "the build %s of the template %s is not ready", build.ID, t.Name)
	case err == nil && build.Snapshot == "":
		return base{}, failed(baseStep, "%s", fault.As(SnapshotGone(build.ID)).Public)
	case err == nil:
		out := base{key: digest("build", build.ID), snapshot: build.Snapshot, hostID: build.HostID}
		out.state = state{user: build.User, workdir: build.Workdir}
		b.sizesOf(build)
		return out, nil
	case !fault.Is(err, fault.NotFound):
		return base{}, atStep(baseStep, "FROM template "+ref, err)
	}
	return b.snapshotBase(ctx, ref, err)
}

// sizesOf notes that a snapshot brings its sizes.
func (b *builder) sizesOf(of Build) {
	if of.VCPUs != b.build.VCPUs || of.MemoryMB != b.build.MemoryMB || of.DiskMB != b.build.DiskMB {
		b.log.add("warn", baseStep, "the base has %d vCPUs, %d MB memory and %d MB disk, and so has the template", of.VCPUs, of.MemoryMB, of.DiskMB)
	}
	b.build.VCPUs, b.build.MemoryMB, b.build.DiskMB = of.VCPUs, of.MemoryMB, of.DiskMB
}

// maxSnapshotPages bounds the search for a snapshot by its name.
const maxSnapshotPages = 20

// snapshotBase finds the named snapshot with an id or a name as a template.
func (b *builder) snapshotBase(ctx context.Context, ref string, unknown error) (base, error) {
	cursor := ""
	for range maxSnapshotPages {
		page, next, err := b.Machines.ListSnapshots(ctx, control.SnapshotFilter{Limit: 100, Cursor: cursor})
		if err != nil {
			return base{}, err
		}
		for _, s := range page {
			if s.Status == control.SnapshotReady && (string(s.ID) == ref || s.TemplateName == ref) {
				b.sizesOf(Build{VCPUs: s.Spec.VCPUs, MemoryMB: s.Spec.MemoryMB, DiskMB: s.Spec.DiskMB})
				return base{key: digest("snapshot", s.ID), snapshot: s.ID, hostID: s.HostID}, nil
			}
		}
		if cursor = next; cursor == "" {
			break
		}
	}
	return base{}, atStep(baseStep, "FROM template "+ref, unknown)
}
