package fault_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

func TestCaught(t *testing.T) {
	want := errors.New("plain")
	if err := fault.Caught(func() error { return want }); !errors.Is(err, want) {
		t.Errorf("an error: got %v, want it as it was", err)
	}
	var nobody *strings.Builder
	err := fault.Caught(func() error { nobody.Reset(); return nil })
	f := fault.As(err)
	if f == nil || f.Kind != fault.Internal || f.Reason != "panic" {
		t.Fatalf("a panic: got %v, want internal panic", err)
	}
	if strings.Contains(f.Public, "nil pointer") || !strings.Contains(err.Error(), "nil pointer") || !strings.Contains(err.Error(), "panic_test.go") {
		t.Errorf("the value and the stack belong into the cause, and not into what a user reads: %v", err)
	}
}
