package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/wrenn-dev/wrenn/client"
)

// session is the measurement of all subjects. Each round measures every subject, so
// that all of them meet the same load.
type session struct {
	Options
	report *Report
	runs   []*run  // one for each runtime of the server
	others []other // the bare subjects
}

// other is a subject that is not a server's.
type other interface {
	// rows is the recorder with the subject's samples.
	rows() *recorder
	// prepare makes everything that the parts use.
	prepare(ctx context.Context) error
	// round measures each part once, burst the starts at once.
	round(ctx context.Context)
	burst(ctx context.Context)
	// close removes everything that the subject made.
	close() error
}

func newSession(o Options) *session {
	return &session{Options: o, report: &Report{
		Date: time.Now().UTC().Truncate(time.Second), Machine: thisMachine(), Sandbox: o.Size, Rounds: o.Rounds,
		Burst: o.Burst, Waves: o.Waves, StaggerMS: o.Stagger.Milliseconds(),
		DirtyMB: o.DirtyMB, DirtyRounds: o.DirtyRounds, FileBytes: o.FileBytes,
	}}
}

// Run performs the measurements and returns the report. The report lists each
// part that failed, and the other parts are measured all the same. Run returns
// both a report and an error if a create or fork failed, a file came back
// changed, or a sandbox could not be deleted. The report is nil if nothing
// could be measured, and when ctx has ended.
func Run(ctx context.Context, o Options) (*Report, error) {
	s := newSession(o)
	began := time.Now()
	err := s.measure(ctx)
	left := s.clean(ctx)
	if err := errors.Join(err, ctx.Err()); err != nil {
		return nil, errors.Join(err, left)
	}
	s.finish()
	s.report.TookSec = time.Since(began).Seconds()
	return s.report, errors.Join(s.runError(), left)
}

// measure performs all measurements in order. An error ends the run.
func (s *session) measure(ctx context.Context) error {
	if err := s.describeServer(ctx); err != nil {
		return err
	}
	for _, r := range s.runs {
		r.plan()
		if err := r.first(ctx); err != nil {
			return fmt.Errorf("the first create: %w", err)
		}
	}
	s.prepareOthers(ctx)
	// A server that has just started fills its pool, which would slow down the
	// measured operations.
	for _, r := range s.runs {
		r.attempt(ctx, opPool, r.awaitClone)
	}
	s.rounds(ctx)
	for i := range s.DirtyRounds {
		for _, r := range s.runs {
			r.dirtyRound(ctx, i)
		}
	}
	s.batches(ctx)
	for _, r := range s.runs {
		if s.LargeBytes > 0 {
			r.attempt(ctx, "large transfers", r.large)
		}
		if s.Streams > 0 {
			r.attempt(ctx, "streams", r.streams)
		}
	}
	if s.Density > 0 {
		for _, r := range s.runs {
			r.attempt(ctx, "density", r.density)
		}
	}
	return nil
}

// prepareOthers readies the bare subjects. One that cannot be made is left out.
func (s *session) prepareOthers(ctx context.Context) {
	for _, o := range s.others {
		rows := o.rows()
		rows.settle = s.runs[0].awaitFullPools
		rows.attempt(ctx, partPrepare, func(ctx context.Context) error {
			err := o.prepare(ctx)
			if err != nil {
				err = fmt.Errorf("%w: %w", errPermanent, err)
			}
			return err
		})
	}
	s.others = slices.DeleteFunc(s.others, func(o other) bool {
		if !o.rows().skipped(partPrepare) {
			return false
		}
		s.report.Missing = append(s.report.Missing, o.rows().failures[partPrepare].String())
		if err := o.close(); err != nil {
			s.Note("%v", err)
		}
		return true
	})
}

const partPrepare = "preparation"

// rounds measures every subject once in each round. The subject that comes first
// changes from round to round, so that warm caches favor none.
func (s *session) rounds(ctx context.Context) {
	for i := range s.Rounds {
		began := time.Now()
		var subjects []func()
		for _, r := range s.runs {
			subjects = append(subjects, func() { r.round(ctx, i) })
		}
		for _, o := range s.others {
			subjects = append(subjects, func() { o.round(ctx) })
		}
		first := i % len(subjects)
		for _, measure := range slices.Concat(subjects[first:], subjects[:first]) {
			measure()
		}
		s.report.Machine.RoundLoad1 = append(s.report.Machine.RoundLoad1, load1())
		s.Note("round %d of %d took %.1f s", i+1, s.Rounds, time.Since(began).Seconds())
	}
}

// batches measures creates that are requested together.
func (s *session) batches(ctx context.Context) {
	if s.Burst == 0 {
		return
	}
	each := func(b batch) {
		for _, r := range s.runs {
			r.attempt(ctx, string(b.shape)+" creates", func(ctx context.Context) error { return r.batch(ctx, b) })
		}
	}
	each(batch{shape: Staggered, gap: s.Stagger, each: opStaggered, toExec: opStaggeredExec})
	for range s.Waves {
		each(batch{shape: Burst, each: opBurst, all: opBurstLast})
		for _, o := range s.others {
			o.burst(ctx)
		}
	}
	// Commands have a burst of their own: they would slow down other creates.
	each(batch{shape: Burst, toExec: opBurstExec})
}

// describeServer records versions and runtimes of the server in the report, and
// prepares a run for each runtime. If there are several hosts, it describes the first.
func (s *session) describeServer(ctx context.Context) error {
	health, err := s.Client.Ready(ctx)
	if err != nil {
		return err
	}
	hosts, err := s.Client.Hosts(ctx)
	if err != nil {
		return err
	}
	if len(hosts) == 0 {
		return errors.New("the server has no host")
	}
	host := hosts[0]
	s.report.RestoreSandbox = sizeWithoutPool(s.Size, hosts)
	s.report.Acceleration = host.Acceleration
	s.report.Versions = Versions{
		Wrenn: health.Version, VMM: host.Driver + " " + host.DriverVersion, GuestKernel: host.KernelRelease,
	}
	for _, rt := range host.Runtimes {
		s.report.Runtimes = append(s.report.Runtimes, RuntimeInfo{
			Name: rt.Runtime, Acceleration: rt.Acceleration, VMM: rt.Driver + " " + rt.DriverVersion, Reason: rt.Reason,
		})
	}
	pools := &poolWatch{}
	for _, name := range s.names(host) {
		s.runs = append(s.runs, newRun(s, name, hosts, pools))
	}
	if s.Runsc != nil {
		s.others = append(s.others, newRunscSubject(s.Options))
	}
	if s.Native != nil {
		s.others = append(s.others, newNativeSubject(s.Options))
	}
	return nil
}

// names returns the runtimes to measure: the requested ones, or all of the host. A
// single one has no name.
func (s *session) names(host client.Host) []Subject {
	var names []Subject
	for _, rt := range s.report.Runtimes {
		if len(s.Runtimes) == 0 || slices.Contains(s.Runtimes, rt.Name) {
			names = append(names, Subject(rt.Name))
		}
	}
	for _, name := range s.Runtimes {
		if !slices.Contains(names, Subject(name)) {
			names = append(names, Subject(name)) // the create says why it has none
		}
	}
	if len(names) == 0 {
		return []Subject{""}
	}
	return names
}

// finish completes the report from the collected samples.
func (s *session) finish() {
	rows := s.recorders()
	position := map[string]int{}
	for _, r := range rows {
		for _, name := range r.order {
			if _, known := position[name]; !known {
				position[name] = len(position)
			}
			m := r.byName[name]
			m.summarise()
			s.report.Measurements = append(s.report.Measurements, *m)
		}
		for _, name := range r.failedParts {
			s.report.Missing = append(s.report.Missing, r.failures[name].String())
		}
	}
	slices.SortStableFunc(s.report.Measurements, func(a, b Measurement) int { return position[a.Name] - position[b.Name] })
	for _, r := range s.runs {
		s.report.Lines = append(s.report.Lines, r.fitLines()...)
	}
	s.report.Ratios = s.report.ratios()
	s.report.Aims = s.report.aims()
	s.report.Comparisons = s.report.comparisons()
}

func (s *session) recorders() (rows []*recorder) {
	for _, r := range s.runs {
		rows = append(rows, r.recorder)
	}
	for _, o := range s.others {
		rows = append(rows, o.rows())
	}
	return rows
}

// clean deletes everything that is left of the run, even if ctx has ended.
func (s *session) clean(ctx context.Context) error {
	var errs []error
	for _, r := range s.runs {
		errs = append(errs, r.clean(ctx))
	}
	for _, o := range s.others {
		errs = append(errs, o.close())
	}
	return errors.Join(errs...)
}

// runError returns an error if failRun was called.
func (s *session) runError() error {
	var errs []error
	for _, r := range s.runs {
		errs = append(errs, r.runError())
	}
	return errors.Join(errs...)
}
