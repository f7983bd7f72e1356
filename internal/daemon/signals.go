package daemon

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// OnSignals returns a context that ends with the first SIGINT or SIGTERM. The
// second one calls exit with 128 plus its number, for an operator who will not
// wait for an orderly stop; exit is os.Exit outside tests. The caller must
// call stop, which gives both signals their default effect back.
func OnSignals(ctx context.Context, exit func(code int)) (signalled context.Context, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	got := make(chan os.Signal, 2) // never closed: package signal may still send
	signal.Notify(got, syscall.SIGINT, syscall.SIGTERM)
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for seen := 0; ; seen++ {
			select {
			case s := <-got:
				if seen > 0 {
					exit(128 + int(s.(syscall.Signal)))
					return
				}
				cancel()
			case <-quit:
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(got)
		cancel()
		close(quit)
		<-done
	}
}
