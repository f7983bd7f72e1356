// Package thread runs functions on operating system threads of their own.
//
// A thread has properties that Linux lets differ within a process: its mount
// namespace, its root directory, its control groups of cgroups v1. A process that it
// starts inherits them. Go moves goroutines between threads, so that a function that
// changes such a property needs a thread that no other goroutine ever uses.
package thread

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// Own runs fn on a thread that ends with it. It is never the process's first thread,
// which /proc/self describes. fn must not panic.
func Own(fn func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // without an unlock: the thread ends with the goroutine
		if unix.Gettid() == unix.Getpid() {
			err := Own(fn) // on another thread, because this goroutine occupies the first
			runtime.UnlockOSThread()
			done <- err
			return
		}
		done <- fn()
	}()
	return <-done
}
