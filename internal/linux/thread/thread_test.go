package thread

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOwnThreadEnds: the function runs on a thread that is not the process's first
// and that does not exist afterwards.
func TestOwnThreadEnds(t *testing.T) {
	want := errors.New("the result")
	for range 50 {
		var tid int
		if err := Own(func() error { tid = unix.Gettid(); return want }); !errors.Is(err, want) {
			t.Fatalf("Own returned %v, want the error of the function", err)
		}
		if tid == unix.Getpid() {
			t.Fatal("the function ran on the process's first thread")
		}
		for exists := true; exists; {
			_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", tid))
			exists = err == nil
		}
	}
}
