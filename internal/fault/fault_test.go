package fault_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/fault/faulthttp"
	"github.com/wrenn-dev/wrenn/internal/fault/faultrpc"
)

func TestEveryKindHasItsPlaceInBothTables(t *testing.T) {
	names := make(map[string]bool)
	for _, k := range fault.Kinds() {
		if names[k.String()] {
			t.Errorf("two kinds are called %s", k)
		}
		names[k.String()] = true
		if s := faulthttp.Status(k); s < 400 || s == 500 && k != fault.Internal {
			t.Errorf("%s is HTTP %d", k, s)
		}
		if c := faultrpc.ToConnect(fault.New(k, "some_reason", "A sentence.")).(*connect.Error).Code(); c == 0 {
			t.Errorf("%s has no Connect code", k)
		}
	}
}

// TestConnectRoundTrip: kind, reason and sentence cross the wire, the cause
// does not.
func TestConnectRoundTrip(t *testing.T) {
	for _, k := range fault.Kinds() {
		sent := fault.Wrap(errors.New("/secret/path"), k, "some_reason", "A sentence with %d.", 42)
		wire := faultrpc.ToConnect(sent)
		if strings.Contains(wire.Error(), "secret") {
			t.Fatalf("%s: the cause is on the wire: %v", k, wire)
		}
		var ce *connect.Error
		if !errors.As(wire, &ce) || ce.Meta().Get("Wrenn-Error-Reason") != "some_reason" || ce.Meta().Get("Wrenn-Error-Kind") != k.String() {
			t.Fatalf("%s: %v", k, wire)
		}
	}
	if faultrpc.ToConnect(nil) != nil || faultrpc.FromConnect(nil) != nil {
		t.Fatal("no error became one")
	}
}

func TestAnErrorThatDidNotComeFromThePeerLeavesTheOutcomeOpen(t *testing.T) {
	err := connect.NewError(connect.CodeUnavailable, errors.New("connection refused"))
	if f := fault.As(faultrpc.FromConnect(err)); f.Kind != fault.HostFailed || f.Reason != faultrpc.ReasonUnreachable || !faultrpc.Unknown(err) {
		t.Fatalf("%+v", f)
	}
}

func TestAs(t *testing.T) {
	inner := fault.New(fault.NotFound, "gone", "It is gone.")
	for _, c := range []struct {
		err  error
		kind fault.Kind
	}{
		{fmt.Errorf("wrapped: %w", inner), fault.NotFound},
		{errors.Join(errors.New("first"), inner), fault.NotFound},
		{context.DeadlineExceeded, fault.Timeout},
		{fmt.Errorf("x: %w", context.Canceled), fault.Canceled},
		{errors.New("anything"), fault.Internal},
	} {
		if got := fault.KindOf(c.err); got != c.kind {
			t.Errorf("%v is %s, want %s", c.err, got, c.kind)
		}
	}
	if public := fault.As(errors.New("password=hunter2")).Public; strings.Contains(public, "hunter2") {
		t.Errorf("an unclassified error shows its text: %s", public)
	}
	if fault.Is(nil, fault.Internal) || fault.As(nil) != nil || fault.ReasonOf(nil) != "" {
		t.Error("nil is of some kind")
	}
}
