package daemon_test

import (
	"context"
	"errors"
	"syscall"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/daemon"
)

func TestSignals(t *testing.T) {
	codes := make(chan int, 1)
	ctx, stop := daemon.OnSignals(t.Context(), func(code int) { codes <- code })
	defer stop()
	self := func(s syscall.Signal) {
		if err := syscall.Kill(syscall.Getpid(), s); err != nil {
			t.Fatal(err)
		}
	}
	self(syscall.SIGTERM)
	<-ctx.Done()
	select {
	case code := <-codes:
		t.Fatalf("the first signal called exit(%d)", code)
	default:
	}
	var cause daemon.Signalled
	if !errors.As(context.Cause(ctx), &cause) || cause.ExitCode() != 128+int(syscall.SIGTERM) {
		t.Errorf("the context ended with %v, want SIGTERM", context.Cause(ctx))
	}
	for range 2 { // exit may return: the next signal asks again
		self(syscall.SIGINT)
		if code := <-codes; code != 128+int(syscall.SIGINT) {
			t.Errorf("a later signal called exit(%d), want 130", code)
		}
	}
}

func TestSignalsStopEndsContext(t *testing.T) {
	ctx, stop := daemon.OnSignals(t.Context(), func(int) { t.Error("exit called") })
	stop()
	<-ctx.Done()
}
