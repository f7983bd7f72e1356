package daemon

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// Signalled is the cause with which a context of OnSignals ends.
type Signalled struct{ Signal syscall.Signal }

// Error names the signal.
func (s Signalled) Error() string { return "received " + s.Signal.String() }

// Is reports true for context.Canceled, because the context was cancelled.
func (s Signalled) Is(target error) bool { return target == context.Canceled }

// ExitCode is that of a program which the signal ends: 128 plus its number.
func (s Signalled) ExitCode() int { return 128 + int(s.Signal) }

// OnSignals returns a context that ends with the first SIGINT or SIGTERM, with
// a Signalled as its cause. Each later one calls exit with 128 plus its number,
// for an operator who will not wait for an orderly stop; exit is os.Exit, or
// returns to continue. The caller must call stop, which gives both signals their
// default effect back.
func OnSignals(ctx context.Context, exit func(code int)) (signalled context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	got := make(chan os.Signal, 2) // never closed: package signal may still send
	signal.Notify(got, syscall.SIGINT, syscall.SIGTERM)
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for seen := 0; ; seen++ {
			select {
			case s := <-got:
				signalled := Signalled{s.(syscall.Signal)}
				if seen == 0 {
					cancel(signalled)
					continue
				}
				exit(signalled.ExitCode())
			case <-quit:
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(got)
		cancel(nil)
		close(quit)
		<-done
	}
}
