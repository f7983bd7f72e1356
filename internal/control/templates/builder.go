package templates

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/build/plan"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
	"github.com/wrenn-dev/wrenn/internal/untrusted"
)

const (
	// maxAttempts is how often a build is tried when machines or hosts fail. Each attempt
	// starts from the last layer of the one before.
	maxAttempts = 3
	// layerWork is how much work since the last layer makes another one worth its
	// snapshot.
	layerWork = time.Second
)

// retryDelay is the time before another attempt, and hostWait how long a build waits for hosts
// and the database in a row before it fails.
var (
	retryDelay = 3 * time.Second
	hostWait   = 5 * time.Minute
)

// builder carries out one build. One goroutine uses it.
type builder struct {
	*Service
	job *job
	// entered says that the build has a slot.
	entered bool
	// build and plan are set by load. The sizes of build are those that were asked for.
	build  Build
	plan   plan.Plan
	inputs Inputs
	log    *buildLog
	// template is the name of the template.
	template string
	machines machineSet

	stages []*stage
	// planned is the number of bytes of the expanded words of all stages.
	planned int
	indexes map[string]*index
	bases   map[plan.Base]base
	// step counts the finished steps of steps.
	step, steps int
}

func newBuilder(s *Service, j *job) *builder {
	return &builder{
		Service: s, job: j, inputs: j.inputs,
		log: newBuildLog(j.id, s.appendLogs, s.notify, j.inputs.Secrets),
	}
}

// appendLogs writes entries of the log of a build here. Once another server has the build, or it
// was deleted, they are dropped, because no repetition can store them.
func (s *Service) appendLogs(ctx context.Context, id BuildID, entries []LogEntry) error {
	err := s.Store.AppendLogs(ctx, id, s.Server, entries)
	if fault.Is(err, fault.WrongState) || fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

// enter waits for one of the slots that bound the builds under way. leave must follow.
func (b *builder) enter(ctx context.Context) error {
	select {
	case b.slots <- struct{}{}:
		b.entered = true
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// leave gives the slot back, if the build has one.
func (b *builder) leave() {
	if b.entered {
		b.entered = false
		<-b.slots
	}
}

// load waits for a slot and reads the build with its plan. While the store does not answer it is
// repeated, without an end: the build keeps its secrets, and the slot is given back before each
// wait, so that the build keeps no other one from its turn. Each try asks again whether the build
// belongs to this server. Other errors of the store fail the build after maxAttempts.
//
// owned is false if there is nothing to carry out: the build has ended, also by load because its
// plan cannot be read, or belongs to another server, or ctx has ended. The build has a slot
// afterwards only if owned is true.
func (b *builder) load(ctx context.Context) (o OwnedBuild, owned bool, err error) {
	for n, refused := 1, 0; ; n++ {
		if b.enter(ctx) != nil {
			return OwnedBuild{}, false, nil
		}
		o, owned, err = b.Store.OwnedBuild(ctx, b.job.id, b.Server)
		if err == nil && owned {
			b.build, b.plan = o.Build, o.Plan
			return o, true, nil
		}
		b.leave()
		if err == nil || ctx.Err() != nil {
			return OwnedBuild{}, false, nil
		}
		if !awaits(err) {
			refused++
		}
		if fault.ReasonOf(err) == ReasonPlan || refused >= maxAttempts {
			return OwnedBuild{}, false, b.fail(ctx, err)
		}
		b.Log.Warn("the plan of a build could not be read", "build", b.job.id, "err", err)
		if wait(ctx, time.Duration(min(n, maxAttempts))*retryDelay, nil) != nil {
			return OwnedBuild{}, false, nil
		}
	}
}

// perform carries out the build to its end, once a slot is free. If ctx ends because the server
// stops, the build stays Building, for the next server. The caller destroys the machines and
// calls leave.
func (b *builder) perform(ctx context.Context) error {
	o, owned, err := b.load(ctx)
	if err != nil {
		return err
	}
	if !owned {
		if ctx.Err() != nil {
			return b.ended(ctx)
		}
		return nil
	}
	if b.job.resumed != "" {
		if o.HasInputs {
			return b.fail(ctx, failed("", "%s, and the secrets and credentials of the build are gone; build again", b.job.resumed))
		}
		b.log.add("warn", "", "%s; the build continues from its last layer", b.job.resumed)
	} else {
		for _, note := range b.plan.Notes {
			b.log.add("warn", "", "%s", note)
		}
	}
	keepCtx, stop := context.WithCancel(ctx)
	var kept sync.WaitGroup
	kept.Go(func() { _ = fault.Caught(func() error { b.keepAlive(keepCtx); return nil }) })
	defer kept.Wait()
	defer stop()
	return b.attempts(ctx)
}

// attempts carries out the build until it has ended. An attempt that finishes a step which no
// earlier one did ends a wait. One that lasts longer than a wait may also ends it, but counts as
// tried, because a build whose host is lost in each attempt must end.
func (b *builder) attempts(ctx context.Context) error {
	var waits time.Time // since when attempts only wait for a part of the installation
	most := 0           // the most steps that an attempt has finished
	for n := 1; ; {
		began := time.Now()
		err := b.attempt(ctx)
		progressed, long := b.step > most, time.Since(began) > hostWait
		most = max(most, b.step)
		if progressed || long {
			waits = time.Time{}
		}
		tell := true // the log tells of a wait once
		var f *failure
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return b.ended(ctx)
		case errors.As(err, &f):
			return b.fail(ctx, err)
		case !awaits(err) || long && !progressed:
			waits = time.Time{}
			if n++; n > maxAttempts {
				return b.fail(ctx, err)
			}
		case waits.IsZero():
			waits = time.Now()
		case time.Since(waits) > hostWait:
			return b.fail(ctx, err)
		default:
			tell = false
		}
		b.Log.Warn("an attempt of a build failed", "build", b.job.id, "err", err)
		if tell {
			b.log.add("warn", "", "%s; the build is tried again from its last layer", fault.As(err).Public)
		}
		b.cleanUp()
		if err := wait(ctx, time.Duration(n)*retryDelay, nil); err != nil {
			return b.ended(ctx)
		}
	}
}

// awaits reports whether err says that no host, or no database, answers now. That says
// nothing about the build.
func awaits(err error) bool {
	reason := fault.ReasonOf(err)
	return reason == reasonNoHost || reason == "database_unavailable"
}

// reasonNoHost is that of the control plane when it cannot reach a host.
const reasonNoHost = "host_unreachable"

// ended handles the end of ctx: a canceled build has its reason in the store, and one
// that the stop of the server interrupts goes on under the next.
func (b *builder) ended(ctx context.Context) error {
	cause := context.Cause(ctx)
	if _, elsewhere := errors.AsType[endedElsewhere](cause); elsewhere ||
		errors.Is(cause, errCanceled) || errors.Is(cause, errSuperseded) || errors.Is(cause, errDeleted) {
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
	_, storeErr := b.Store.FailBuild(context.WithoutCancel(ctx), b.job.id, b.Server, r)
	var f *failure
	if errors.As(err, &f) {
		err = nil
	}
	return errors.Join(err, storeErr)
}

// attempt carries out the build once.
func (b *builder) attempt(ctx context.Context) error {
	b.stages, b.indexes, b.bases, b.step, b.steps = nil, map[string]*index{}, map[plan.Base]base{}, 0, 0
	t, err := b.Store.GetTemplate(ctx, string(b.build.Template))
	if err != nil {
		return err
	}
	b.template = t.Name
	if err := b.resolve(ctx); err != nil {
		return err
	}
	// Only the server that the build belongs to gets further.
	if err := b.progress(ctx); err != nil {
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
	// Sandboxes get the environment, with bounds of their own.
	env := environment(nil, b.stages[len(b.stages)-1].state().env)
	return atStep(finalStep, "the environment of the template", sandbox.ValidateEnv(env))
}

// progress writes how far the build is. It ends the build here, and returns an error, if the
// build has ended in the store or belongs to another server.
func (b *builder) progress(ctx context.Context) error {
	err := b.Store.Progress(ctx, b.job.id, b.Server, min(b.step, b.steps), b.steps)
	switch {
	case fault.Is(err, fault.WrongState) || fault.Is(err, fault.NotFound):
		b.interruptLost(context.WithoutCancel(ctx), b.job.id)
		return err
	case err != nil && ctx.Err() == nil:
		b.Log.Warn("the progress of a build could not be written", "build", b.job.id, "err", err)
	}
	b.notify()
	return nil
}

// base is the start of a stage.
type base struct {
	key string
	// image and hostID, or snapshot, are those of a new machine.
	image    string
	hostID   string
	snapshot sandbox.SnapshotID
	state    state
	// sizes are those that a snapshot brings; zero for an image.
	sizes sizes
	// entrypoint and cmd are those of an image.
	entrypoint, cmd []string
}

// sizes are those of a machine.
type sizes struct{ VCPUs, MemoryMB, DiskMB int }

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
	if !found || !strings.ContainsAny(host, ".:") && host != "localhost" || host == "index.docker.io" {
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
	b.setImport(b.job, nil)
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
		out.entrypoint, out.cmd = img.Entrypoint, img.Cmd
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

// maxImportDetail bounds Import.Detail, in bytes.
const maxImportDetail = 256

// importInterval is the time between two tellings of the progress of an import.
const importInterval = 500 * time.Millisecond

// importProgress returns a function that tells followers of the progress of an import, and logs
// a line for each stage and for each few seconds.
func (b *builder) importProgress() func(control.ImageProgress) {
	var stage string
	var at, told time.Time
	return func(p control.ImageProgress) {
		if p.Stage != stage || time.Since(told) >= importInterval {
			told = time.Now()
			detail := strings.TrimSpace(p.Stage + " " + p.Detail)
			b.setImport(b.job, &Import{Detail: untrusted.Line(detail, maxImportDetail), Done: max(p.Done, 0), Total: max(p.Total, 0)})
		}
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
