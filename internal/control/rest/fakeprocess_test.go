package rest

import (
	"context"
	"slices"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// fakeProcess is a process of a fakeSandboxes, whose output is out in pieces of one
// stream each.
type fakeProcess struct {
	control.Process
	start control.ProcessStart
	input []byte
	sent  []control.ProcessCall
}

// fakeOutput is the output of every fake process: pieces, the first of which is no
// longer kept.
var fakeOutput = []struct {
	stream string
	offset int64
	data   string
}{
	{"", 0, "lost!"},
	{"stdout", 5, "h\xc3"}, {"stdout", 7, "\xa9llo\n"}, {"stderr", 12, "oh\n"}, {"stdout", 15, "\xff"},
}

const fakeOutputEnd = 16

func (f *fakeSandboxes) CallProcess(_ context.Context, id sandbox.ID, call control.ProcessCall) ([]control.Process, error) {
	if err := f.running(id); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch c := call.(type) {
	case control.ProcessStart:
		p := &fakeProcess{start: c, Process: control.Process{
			ID: c.ID, Cmd: c.Command.Cmd, Args: c.Command.Args, Cwd: "/", User: "root", Stdin: c.Stdin, Terminal: c.Terminal != nil,
			Block: c.Block, JournalBytes: 1 << 20, StartedAt: time.Unix(1_700_000_000, 0).UTC(), OutputStart: 5, OutputEnd: fakeOutputEnd, TruncatedBytes: 5,
		}}
		f.processes = append(f.processes, p)
		return []control.Process{p.Process}, nil
	case control.ProcessList:
		var out []control.Process
		for _, p := range f.processes {
			out = append(out, p.Process)
		}
		return out, nil
	case control.ProcessGet:
		return f.onProcess(c.ID, func(p *fakeProcess) {
			if c.Wait > 0 {
				p.Exit = &control.ProcessExit{At: p.StartedAt.Add(time.Minute), Code: 143, Signal: "terminated"}
			}
		})
	case control.ProcessInput:
		return f.onProcess(c.ID, func(p *fakeProcess) { p.input, p.sent = append(p.input, c.Data...), append(p.sent, c) })
	case control.ProcessSignal:
		return f.onProcess(c.ID, func(p *fakeProcess) { p.sent = append(p.sent, c) })
	case control.ProcessResize:
		return f.onProcess(c.ID, func(p *fakeProcess) { p.sent = append(p.sent, c) })
	case control.ProcessAck:
		return f.onProcess(c.ID, func(p *fakeProcess) { p.Acknowledged = c.Offset })
	}
	panic("an operation that the fake does not know")
}

// onProcess does something with the process called id.
func (f *fakeSandboxes) onProcess(id control.ProcessID, do func(*fakeProcess)) ([]control.Process, error) {
	i := slices.IndexFunc(f.processes, func(p *fakeProcess) bool { return p.ID == id })
	if i < 0 {
		return nil, fault.New(fault.NotFound, "process_not_found", "there is no such process")
	}
	do(f.processes[i])
	return []control.Process{f.processes[i].Process}, nil
}

func (f *fakeSandboxes) AttachProcess(ctx context.Context, id sandbox.ID, a control.ProcessAttach, sink control.ProcessSink) (control.Process, error) {
	ps, err := f.CallProcess(ctx, id, control.ProcessGet{ID: a.ID})
	if err != nil {
		return control.Process{}, err
	}
	if err := sink.Attached(ps[0]); err != nil {
		return control.Process{}, err
	}
	for _, piece := range fakeOutput {
		if skip := max(a.Offset-piece.offset, 0); skip >= int64(len(piece.data)) {
			continue
		} else {
			piece.offset, piece.data = piece.offset+skip, piece.data[skip:]
		}
		if piece.stream == "" {
			err = sink.Truncated(piece.offset, int64(len(piece.data)))
		} else {
			err = sink.Output(piece.stream, piece.offset, []byte(piece.data))
		}
		if err != nil {
			return control.Process{}, err
		}
	}
	if f.attachWait != nil {
		return control.Process{}, f.attachWait(ctx)
	}
	if f.attachErr != nil {
		return control.Process{}, f.attachErr
	}
	ps, err = f.CallProcess(ctx, id, control.ProcessGet{ID: a.ID, Wait: time.Second})
	if err != nil {
		return control.Process{}, err
	}
	return ps[0], nil
}
