// Package waits has system calls that wait, to find out whether a pause or a copy of
// a sandbox ends the wait.
//
// The program in ../probe runs them in a sandbox, all in one process. Each call waits
// on a thread of its own, and no handler of a signal is called meanwhile. A call that
// fails with EINTR without a handler breaks programs that do not expect it.
package waits

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Wait is one row of the table.
type Wait struct {
	// Name is the title of the row.
	Name string
	// prepare returns the call.
	prepare func() (call, error)
}

// call is a system call that waits.
type call struct {
	// do makes the call. It returns nil if the event of end has ended the wait.
	do func() error
	// end brings the event about for which the call waits, without waiting itself.
	// thread is the one that makes the call.
	end func(thread int) error
}

// All returns all waits, in the order of the table.
func All() []Wait {
	return slices.Concat(files(), sockets(), multiplexers(), communication(), signals())
}

// patience bounds the time that the calls need to begin or to end. Most need some
// milliseconds, on a busy machine whose processor is emulated some seconds.
const patience = 2 * time.Minute

// Waiting is a process in which all calls wait.
type Waiting []*waiting

type waiting struct {
	Wait
	call
	thread atomic.Int64 // 0 until it is about to call
	ended  atomic.Bool  // set before the event
	result chan string
}

// Start makes all calls and returns once they wait.
func Start() (Waiting, error) {
	var all Waiting
	for _, w := range All() {
		c, err := w.prepare()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.Name, err)
		}
		all = append(all, &waiting{Wait: w, call: c, result: make(chan string, 1)})
	}
	for _, w := range all {
		go w.run()
	}
	return all, all.settle()
}

// run makes the call on this goroutine's thread.
func (w *waiting) run() {
	runtime.LockOSThread()
	w.thread.Store(int64(unix.Gettid()))
	err := w.do()
	w.result <- outcome(err, w.ended.Load())
}

// outcome is the word of the table for the result of a call.
func outcome(err error, ended bool) string {
	var number syscall.Errno
	switch {
	case errors.As(err, &number) && unix.ErrnoName(number) != "":
		return unix.ErrnoName(number)
	case err != nil:
		return err.Error()
	case !ended:
		return "returns without the event"
	default:
		return "goes on"
	}
}

// settle returns once every thread sleeps.
func (all Waiting) settle() error {
	for deadline, quiet := time.Now().Add(patience), 0; quiet < 3; time.Sleep(10 * time.Millisecond) {
		awake, err := all.awake()
		switch {
		case err != nil:
			return err
		case awake == "":
			quiet++
		case time.Now().After(deadline):
			return fmt.Errorf("%s does not wait", awake)
		default:
			quiet = 0
		}
	}
	return nil
}

// awake returns the name of a call that does not wait yet, if there is one.
func (all Waiting) awake() (string, error) {
	for _, w := range all {
		select {
		case result := <-w.result:
			return "", fmt.Errorf("%s does not wait: %s", w.Name, result)
		default:
		}
		if !sleeps(w.thread.Load()) {
			return w.Name, nil
		}
	}
	return "", nil
}

// sleeps reports whether a thread of this process waits in the kernel.
func sleeps(thread int64) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/stat", thread))
	_, after, found := strings.Cut(string(text), ") ")
	return err == nil && found && (after[0] == 'S' || after[0] == 'D')
}

// End ends all waits and returns the name and the result of each, a line each.
func (all Waiting) End() string {
	var b strings.Builder
	for _, w := range all {
		fmt.Fprintf(&b, "%s\t%s\n", w.Name, w.finish())
	}
	return b.String()
}

// finish ends the wait, unless it has ended, and returns the result of the call.
func (w *waiting) finish() string {
	select {
	case result := <-w.result:
		return result
	default:
	}
	w.ended.Store(true)
	if err := w.end(int(w.thread.Load())); err != nil {
		return "its event fails: " + err.Error()
	}
	select {
	case result := <-w.result:
		return result
	case <-time.After(patience):
		return "hangs"
	}
}
