package gvisor

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"strings"
	"testing"
)

// serve answers one request at the control socket of dir.
func serve(t *testing.T, dir string, answer func(method string, out io.Writer)) {
	t.Helper()
	l, err := net.Listen("unix", controlPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		var request struct {
			Method string `json:"method"`
		}
		if json.NewDecoder(conn).Decode(&request) == nil {
			answer(request.Method, conn)
		}
	}()
}

func TestCall(t *testing.T) {
	dir := t.TempDir()
	serve(t, dir, func(method string, out io.Writer) {
		_, _ = io.WriteString(out, `{"success": true, "err": "", "result": "`+method+`"}`)
	})
	var got string
	if err := call(t.Context(), dir, methodStacks, nil, &got); err != nil || got != methodStacks {
		t.Fatalf("result %q, %v; want the method", got, err)
	}
}

// TestCallBoundsTheMessage: a sentry that the guest has taken over chooses the text of
// an error.
func TestCallBoundsTheMessage(t *testing.T) {
	dir := t.TempDir()
	serve(t, dir, func(_ string, out io.Writer) {
		text, _ := json.Marshal("line\n\x1b[31m" + strings.Repeat("x", 1<<20))
		_, _ = io.WriteString(out, `{"success": false, "err": `+string(text)+`}`)
	})
	err := call(t.Context(), dir, methodPause, nil, nil)
	if err == nil || len(err.Error()) > 2*errorBytes || strings.ContainsAny(err.Error(), "\n\x1b") {
		t.Fatalf("got an error of %d bytes, want one short line", len(err.Error()))
	}
}

// TestResumeOnFullDisk: a sandbox continues although the request cannot be noted, and
// is not paused then.
func TestResumeOnFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(requestPath(dir), 0o700); err != nil { // no file can be written there
		t.Fatal(err)
	}
	var asked string
	serve(t, dir, func(method string, out io.Writer) {
		asked = method
		_, _ = io.WriteString(out, `{"success": true, "err": "", "result": null}`)
	})
	p := power{dir: dir, life: t.Context(), turn: make(chan struct{}, 1), known: true}
	if err := p.set(t.Context(), true); err == nil || asked != "" {
		t.Errorf("pause without a note: got %v after the request %q, want an error and no request", err, asked)
	}
	p.paused = true
	if err := p.set(t.Context(), false); err != nil || asked != methodResume {
		t.Errorf("resume without a note: got %v after the request %q, want %q", err, asked, methodResume)
	}
}

func TestCallEndsWithItsContext(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	serve(t, dir, func(string, io.Writer) {
		cancel()
		<-t.Context().Done()
	})
	if err := call(ctx, dir, methodPause, nil, nil); err == nil {
		t.Fatal("a call without an answer succeeded")
	}
}

func TestCountTasks(t *testing.T) {
	const (
		sentry  = "goroutine 1 [select]:\nmain.main()\n\tmain.go:1\n"
		blocked = "goroutine 42 [select]:\ngvisor.dev/gvisor/pkg/sentry/kernel.(*Task).block(0x1)\n\tf.go:1\ngvisor.dev/gvisor/pkg/sentry/kernel.(*Task).run(0x1, 0x2)\n\tf.go:2\n"
		stopped = "goroutine 43 [sync.Cond.Wait]:\ngvisor.dev/gvisor/pkg/sentry/kernel.(*Task).doStop(0x1)\n\tf.go:1\ngvisor.dev/gvisor/pkg/sentry/kernel.(*Task).run(0x1, 0x2)\n\tf.go:2\n"
	)
	tasks, stops := countTasks(strings.Join([]string{sentry, blocked, stopped, stopped}, "\n"))
	if tasks != 3 || stops != 2 {
		t.Fatalf("%d of %d tasks stopped, want 2 of 3", stops, tasks)
	}
}
