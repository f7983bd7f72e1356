package gvisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/untrusted"
)

// Methods of the sentry's control server (runsc/boot/controller.go).
const (
	methodPause       = "containerManager.Pause"
	methodResume      = "containerManager.Resume"
	methodProcesses   = "containerManager.Processes"
	methodWait        = "containerManager.Wait"
	methodWaitRestore = "containerManager.WaitRestore"
	methodCheckpoint  = "containerManager.Checkpoint"
	methodStacks      = "debug.Stacks"
	methodReduce      = "Usage.Reduce"
	methodCat         = "Fs.Cat"
	methodSaveDisk    = "Fs.TarRootfsUpperLayer"
	methodWriteGroups = "Cgroups.WriteControlFiles"
)

// answerBytes bounds one answer of the sentry, which a guest may have taken over.
// The longest are the stacks of many threads.
const answerBytes = 64 << 20

// errorBytes bounds an error message of the sentry.
const errorBytes = 1 << 10

// controlPath is the path of the control socket of the sandbox in dir.
func controlPath(dir string) string { return filepath.Join(dir, "runsc-"+containerID+".sock") }

// call calls a method of the sentry of the sandbox in dir and decodes its result,
// unless that is nil. It passes the open files, which stay the caller's. Each call is a
// connection of its own with one JSON object in each direction (pkg/urpc). If ctx ends,
// the call fails, and the sentry may carry it out all the same.
func call(ctx context.Context, dir, method string, arg, result any, files ...*os.File) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", controlPath(dir))
	if err != nil {
		return fmt.Errorf("connect to the sentry: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	answer, err := exchange(conn.(*net.UnixConn), method, arg, files)
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", method, context.Cause(ctx))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	if !answer.Success {
		return fmt.Errorf("%s: the sentry says: %s", method, untrusted.Line(answer.Err, errorBytes))
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(answer.Result, result)
}

// answer is an answer of the control server.
type answer struct {
	Success bool            `json:"success"`
	Err     string          `json:"err"`
	Result  json.RawMessage `json:"result"`
}

func exchange(conn *net.UnixConn, method string, arg any, files []*os.File) (a answer, err error) {
	if err := send(conn, method, arg, files); err != nil {
		return a, err
	}
	limited := &io.LimitedReader{R: conn, N: answerBytes}
	err = json.NewDecoder(limited).Decode(&a)
	if limited.N == 0 {
		err = errors.New("the answer is too long")
	}
	return a, err
}

// send sends one request. Its first byte carries the files.
func send(conn *net.UnixConn, method string, arg any, files []*os.File) error {
	request, err := json.Marshal(struct {
		Method string `json:"method"`
		Arg    any    `json:"arg"`
	}{method, arg})
	if err != nil {
		return err
	}
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(f.Fd())
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	n, _, err := conn.WriteMsgUnix(request, rights, nil)
	runtime.KeepAlive(files)
	if err == nil && n < len(request) {
		_, err = conn.Write(request[n:])
	}
	return err
}

// paused reports whether the sentry of the sandbox in dir has stopped all tasks of
// the guest. The control server has no such question, and an unmatched Resume ends
// the sentry (pkg/sentry/kernel/task_stop.go), so the goroutines of the tasks are
// looked at: those of a paused sentry all are in doStop.
func paused(ctx context.Context, dir string) (bool, error) {
	var stacks string
	if err := call(ctx, dir, methodStacks, nil, &stacks); err != nil {
		return false, err
	}
	tasks, stopped := countTasks(stacks)
	if tasks == 0 {
		return false, errors.New("the sentry shows no task of the guest")
	}
	return tasks == stopped, nil
}

// Functions in the stack of a task's goroutine (pkg/sentry/kernel/task_run.go).
const (
	taskRunFrame  = "kernel.(*Task).run("
	taskStopFrame = "kernel.(*Task).doStop("
)

// countTasks returns the number of tasks in a list of stacks, and of those that are
// stopped.
func countTasks(stacks string) (tasks, stopped int) {
	for stack := range strings.SplitSeq(stacks, "\n\n") {
		if !strings.Contains(stack, taskRunFrame) {
			continue
		}
		tasks++
		if strings.Contains(stack, taskStopFrame) {
			stopped++
		}
	}
	return tasks, stopped
}
