package host_test

import (
	"context"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// outputs is a control.ProcessSink that passes on the events that it gets.
type outputs struct {
	first     chan control.Process
	text      string
	truncated int64
	wanted    string // an output after which come closes
	come      chan struct{}
}

func (o *outputs) Attached(p control.Process) error { o.first <- p; return nil }

func (o *outputs) Output(_ string, _ int64, data []byte) error {
	if o.text += string(data); o.wanted != "" && o.text == o.wanted {
		close(o.come)
	}
	return nil
}

func (o *outputs) Truncated(_, bytes int64) error { o.truncated += bytes; return nil }

func newOutputs(wanted string) *outputs {
	return &outputs{first: make(chan control.Process, 1), wanted: wanted, come: make(chan struct{})}
}

// startProcess starts a shell in ref that the guest keeps.
func (b *portBench) startProcess(ref sandbox.Ref, script string) control.ProcessID {
	b.t.Helper()
	id := control.NewProcessID()
	ps, err := b.client.CallProcess(b.t.Context(), ref, control.ProcessStart{
		ID: id, Command: control.Exec{Cmd: "/bin/sh", Args: []string{"-c", script}}, Stdin: true,
	})
	check(b.t, err)
	if len(ps) != 1 || ps[0].ID != id || ps[0].Exit != nil {
		b.t.Fatalf("start: got %+v, want the process %s, running", ps, id)
	}
	return id
}

func TestProcess(t *testing.T) {
	t.Parallel()
	b := newPortBench(t)
	ref := b.create()
	id := b.startProcess(ref, "echo one; read x; echo $x; kill -9 $$")
	out := newOutputs("one\n")
	ended := make(chan control.Process, 1)
	go func() {
		p, err := b.client.AttachProcess(t.Context(), ref, control.ProcessAttach{ID: id}, out)
		if err != nil {
			t.Errorf("attach: %v", err)
		}
		ended <- p
	}()
	<-out.come
	_, err := b.client.CallProcess(t.Context(), ref, control.ProcessInput{ID: id, Data: []byte("two\n"), Close: true})
	check(t, err)
	p := <-ended
	if out.text != "one\ntwo\n" || p.Exit == nil || p.Exit.Code != 137 || p.Exit.Signal != "killed" || p.OutputEnd != 8 {
		t.Errorf("got %q and %+v, want both lines and signal 9", out.text, p)
	}
	for _, call := range []control.ProcessCall{
		control.ProcessInput{ID: id}, control.ProcessSignal{ID: id, Number: 15}, control.ProcessResize{ID: id},
	} {
		if _, err := b.client.CallProcess(t.Context(), ref, call); !fault.Is(err, fault.WrongState) || fault.ReasonOf(err) != "process_ended" {
			t.Errorf("%T after the end: %v, want process_ended", call, err)
		}
	}
	if _, err := b.client.CallProcess(t.Context(), ref, control.ProcessGet{ID: "nosuch"}); !fault.Is(err, fault.NotFound) {
		t.Errorf("an unknown process: %v, want not found", err)
	}
}

// TestPassiveProcessList: a passive list of processes is no use of the sandbox.
func TestPassiveProcessList(t *testing.T) {
	t.Parallel()
	b := newPortBench(t)
	ref := b.create()
	id := b.startProcess(ref, "sleep 1000")
	list := func(passive bool) time.Time {
		ps, err := b.client.CallProcess(t.Context(), ref, control.ProcessList{Passive: passive})
		check(t, err)
		if len(ps) != 1 || ps[0].ID != id {
			t.Errorf("passive %t: got %+v, want the process %s", passive, ps, id)
		}
		return b.of(ref).LastActiveAt
	}
	before := b.of(ref).LastActiveAt
	if at := list(true); !at.Equal(before) {
		t.Errorf("after a passive list the sandbox was active at %v, want still %v", at, before)
	}
	if at := list(false); !at.After(before) {
		t.Errorf("after a list the sandbox was active at %v, want later than %v", at, before)
	}
}

// TestPauseEndsReadersAtOnce: a pause waits neither for an attached reader nor for a
// wait, and both learn the reason.
func TestPauseEndsReadersAtOnce(t *testing.T) {
	t.Parallel()
	b := newPortBench(t)
	b.change = func(cfg *host.Config) { cfg.PauseGrace = 10 * time.Minute } // longer than the test may take
	b.restart()
	b.socket += "2"
	b.serve()
	ref := b.create()
	id := b.startProcess(ref, "echo one; sleep 1000")
	cut := make(chan error, 2)
	out := newOutputs("one\n")
	go func() {
		_, err := b.client.AttachProcess(t.Context(), ref, control.ProcessAttach{ID: id}, out)
		cut <- err
	}()
	<-out.come
	go func() {
		_, err := b.client.CallProcess(t.Context(), ref, control.ProcessGet{ID: id, Wait: 10 * time.Minute})
		cut <- err
	}()
	for b.Followers(ref) < 2 {
		time.Sleep(time.Millisecond)
	}
	pauseSubject(b.core, ref)
	for range 2 {
		if err := <-cut; fault.ReasonOf(err) != "sandbox_paused" {
			t.Errorf("got %v, want sandbox_paused", err)
		}
	}
}

func TestReadersAreBounded(t *testing.T) {
	t.Parallel()
	b := newPortBench(t)
	ref := b.create()
	id := b.startProcess(ref, "sleep 1000")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, host.MaxAttached)
	for range host.MaxAttached {
		go func() {
			_, err := b.client.CallProcess(ctx, ref, control.ProcessGet{ID: id, Wait: 10 * time.Minute})
			ended <- err
		}()
	}
	for b.Followers(ref) < host.MaxAttached {
		time.Sleep(time.Millisecond)
	}
	_, err := b.client.AttachProcess(t.Context(), ref, control.ProcessAttach{ID: id}, newOutputs(""))
	if !fault.Is(err, fault.Quota) || fault.ReasonOf(err) != "too_many_readers" {
		t.Errorf("one reader too many: %v, want too_many_readers", err)
	}
	cancel()
	for range host.MaxAttached {
		<-ended
	}
}

// TestInputsAreBounded: input that no process reads is held by the callers' requests,
// whose number is bounded.
func TestInputsAreBounded(t *testing.T) {
	t.Parallel()
	b := newPortBench(t)
	ref := b.create()
	id := b.startProcess(ref, "sleep 1000")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, host.MaxInputs)
	input := control.ProcessInput{ID: id, Data: make([]byte, 1<<20)} // more than a pipe holds
	for range host.MaxInputs {
		go func() {
			_, err := b.client.CallProcess(ctx, ref, input)
			ended <- err
		}()
	}
	for b.Inputs(ref) < host.MaxInputs {
		time.Sleep(time.Millisecond)
	}
	_, err := b.client.CallProcess(t.Context(), ref, input)
	if !fault.Is(err, fault.Quota) || fault.ReasonOf(err) != "too_many_inputs" {
		t.Errorf("one input too many: %v, want too_many_inputs", err)
	}
	cancel()
	for range host.MaxInputs {
		<-ended
	}
}
