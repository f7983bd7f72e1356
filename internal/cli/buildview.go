package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/client"
)

// buildView prints the progress of a build: its log as lines and, on a terminal, a last line
// that tells the step and the time.
//
// Invariants: mu protects the fields below it; status is empty while no last line is
// shown.
type buildView struct {
	app  *App
	out  io.Writer
	json bool
	live bool

	mu    sync.Mutex
	begun time.Time
	step  string // the text of the current step
	done  int
	total int
	// imports tells how far the import of a base image is; empty while there is none.
	imports string
	status  string
	tail    []client.TemplateBuildLog // the newest lines
	stop    chan struct{}
}

const (
	// maxTail is the number of lines that are shown of a failed step.
	maxTail = 20
	// statusEvery is the time between two updates of the last line.
	statusEvery = 250 * time.Millisecond
	// defaultWidth is the width of a terminal that does not tell it, in characters.
	defaultWidth = 80
)

// newBuildView returns a view that prints to out, or nowhere if out is nil. asJSON prints
// each line of the log as an object.
func (a *App) newBuildView(out io.Writer, asJSON bool) *buildView {
	return &buildView{app: a, out: out, json: asJSON, live: a.io.Progress && out != nil && !asJSON, begun: time.Now()}
}

// start shows the last line from now on, until end.
func (v *buildView) start() {
	if !v.live {
		return
	}
	v.stop = make(chan struct{})
	go func(stop chan struct{}) {
		tick := time.NewTicker(statusEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				v.mu.Lock()
				v.draw()
				v.mu.Unlock()
			case <-stop:
				return
			}
		}
	}(v.stop)
}

// end removes the last line.
func (v *buildView) end() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.stop != nil {
		close(v.stop)
		v.stop = nil
	}
	v.clear()
}

// draw shows the last line. The caller holds mu.
func (v *buildView) draw() {
	if v.stop == nil {
		return
	}
	width := v.app.width()
	if width <= 0 {
		width = defaultWidth
	}
	status := ShowAge(time.Since(v.begun))
	if v.imports != "" {
		status += "  " + v.imports
	} else if v.total > 0 {
		status += fmt.Sprintf("  step %d of %d", v.done, v.total)
	}
	if v.step != "" && v.imports == "" {
		status += "  " + v.step
	}
	status = cut(printable(status), width-1)
	if status != v.status {
		fmt.Fprintf(v.app.io.Err, "\r\x1b[K\x1b[2m%s\x1b[0m", status)
		v.status = status
	}
}

// clear removes the last line. The caller holds mu.
func (v *buildView) clear() {
	if v.status != "" {
		fmt.Fprint(v.app.io.Err, "\r\x1b[K")
		v.status = ""
	}
}

// show prints an event.
func (v *buildView) show(e *client.BuildEvent) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case e.Progress != nil:
		if v.imports = showImport(*e.Progress); v.imports == "" {
			v.done, v.total = e.Progress.Done, e.Progress.Total
		}
		v.draw()
	case e.Log != nil:
		if isStepHeader(*e.Log) {
			v.step = e.Log.Message
		}
		if v.tail = append(v.tail, *e.Log); len(v.tail) > maxTail {
			v.tail = v.tail[1:]
		}
		v.clear()
		err := v.print(*e.Log)
		v.draw()
		return err
	}
	return nil
}

// showImport shows the progress of an import; any other is empty.
func showImport(p client.TemplateBuildProgress) string {
	switch {
	case p.Stage != client.BuildImport:
		return ""
	case p.Total > 0:
		return fmt.Sprintf("%s: %s of %s", p.Detail, showBytes(int64(p.Done)), showBytes(int64(p.Total)))
	case p.Done > 0:
		return fmt.Sprintf("%s: %s", p.Detail, showBytes(int64(p.Done)))
	}
	return p.Detail
}

// print prints a line of the log.
func (v *buildView) print(e client.TemplateBuildLog) error {
	switch {
	case v.out == nil:
		return nil
	case v.json:
		return v.app.encode(e, "")
	}
	_, err := fmt.Fprintln(v.out, showLog(e))
	return err
}

// isStepHeader reports whether a line of a log begins a step, as "[1/3] RUN make" does.
func isStepHeader(e client.TemplateBuildLog) bool { return strings.HasPrefix(e.Message, "[") }

// showLog shows a line of a log. Lines within a step are indented.
func showLog(e client.TemplateBuildLog) string {
	text := printable(e.Message)
	switch {
	case e.Level == "warn":
		return "warning: " + text
	case e.Level == "error":
		return "error: " + text
	case e.Step == "" || isStepHeader(e) || strings.HasPrefix(text, "CACHED "):
		return text
	}
	return "  " + text
}

// followBuild shows a build until it has ended. A broken connection is made again.
func (a *App) followBuild(ctx context.Context, b *client.TemplateBuild, view *buildView) (*client.TemplateBuild, error) {
	view.start()
	defer view.end()
	var seq int64
	var lost time.Time
	pause := retryFirst
	for {
		end, err := a.attachBuild(ctx, b.ID, &seq, view, func() { lost, pause = time.Time{}, retryFirst })
		switch {
		case err == nil:
			return end, nil
		case lost.IsZero():
			lost = time.Now()
		}
		if ctx.Err() != nil || !client.Retryable(err) || time.Since(lost) > retryFor {
			return nil, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		pause = min(2*pause, retryMost)
	}
}

// attachBuild shows the events of a build after seq, which it advances.
func (a *App) attachBuild(ctx context.Context, id string, seq *int64, view *buildView, alive func()) (*client.TemplateBuild, error) {
	s, err := a.Client().FollowBuild(ctx, client.AnyTemplate, id, *seq)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	for {
		e, err := s.Next()
		if err != nil {
			return nil, err
		}
		alive()
		if e.Build != nil {
			return e.Build, nil
		}
		if e.Log != nil {
			*seq = e.Log.Seq
		}
		if err := view.show(e); err != nil {
			return nil, &Failure{Message: err.Error()}
		}
	}
}

// buildFailure returns the failure of a build that has ended; nil for one that is ready.
func buildFailure(b *client.TemplateBuild) error {
	if b.Status == client.BuildReady {
		return nil
	}
	f := &Failure{Message: "the build failed", Hint: "read its log with `wrenn template logs " + b.ID + "`"}
	if b.Reason != nil {
		f.Message = printableLines(b.Reason.Message)
		if b.Reason.Step != "" && !strings.Contains(f.Message, "step ") {
			f.Message = "step " + printable(b.Reason.Step) + ": " + f.Message
		}
	}
	return f
}

// printableLines is printable for text of several lines.
func printableLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = printable(l)
	}
	return strings.Join(lines, "\n")
}

// interruptedBuild tells how to go on with a build that its reader has left.
func (a *App) interruptedBuild(ctx context.Context, err error, id string) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		a.note("the build continues; follow it with: wrenn template logs -f %s\nor end it with: wrenn template cancel %s", id, id)
	}
	return err
}
