package gvisor

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
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

// TestCallPassesFiles: the other end gets the open files with the request, in their
// order, and the caller keeps its own.
func TestCallPassesFiles(t *testing.T) {
	dir := t.TempDir()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: controlPath(dir)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	got := make(chan []*os.File, 1)
	go func() {
		defer close(got)
		conn, err := l.AcceptUnix()
		if err != nil {
			return
		}
		defer conn.Close()
		got <- receiveFiles(conn)
		_, _ = io.WriteString(conn, `{"success": true, "err": "", "result": null}`)
	}()
	var files []*os.File
	for _, name := range savedFiles {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files = append(files, f)
	}
	if err := call(t.Context(), dir, methodCheckpoint, saveOptions{HavePagesFile: true}, nil, files...); err != nil {
		t.Fatal(err)
	}
	passed := <-got
	if len(passed) != len(files) {
		t.Fatalf("%d files arrived, want %d", len(passed), len(files))
	}
	for i, f := range passed {
		defer f.Close()
		have, err := f.Stat()
		want, wantErr := files[i].Stat() // fails if call has closed the file
		if err != nil || wantErr != nil || !os.SameFile(have, want) {
			t.Errorf("file %d is not %s: %v, %v", i, savedFiles[i], err, wantErr)
		}
	}
}

// receiveFiles returns the files that arrive with the first byte.
func receiveFiles(conn *net.UnixConn) []*os.File {
	space := make([]byte, unix.CmsgSpace(16*4))
	_, n, _, _, err := conn.ReadMsgUnix(make([]byte, 4096), space)
	if err != nil {
		return nil
	}
	messages, err := unix.ParseSocketControlMessage(space[:n])
	if err != nil || len(messages) != 1 {
		return nil
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil
	}
	files := make([]*os.File, len(fds))
	for i, fd := range fds {
		files[i] = os.NewFile(uintptr(fd), "passed")
	}
	return files
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
