package e2e

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
	"testing"

	"github.com/wrenn-dev/wrenn/client"
)

// TestUninstall removes an installation whose server was killed. Sandboxes of each
// runtime run and are paused, and nothing of them is left.
func TestUninstall(t *testing.T) {
	t.Parallel()
	s := startUp(t)
	ctx := t.Context()
	for _, runtime := range []string{"microvm", "gvisor"} {
		req := small
		req.Runtime = runtime
		for range 2 {
			sb, err := s.Create(ctx, req)
			check(t, err)
			if sb.Runtime != runtime {
				t.Fatalf("the sandbox %s has the runtime %q, want %q", sb.ID, sb.Runtime, runtime)
			}
			sh(t, s.Client, sb.ID, "sleep 1000 >/dev/null 2>&1 &")
			if _, err := s.Fork(ctx, sb.ID, client.ForkRequest{Count: 1}); err != nil {
				t.Fatal(err)
			}
			_, err = s.Pause(ctx, sb.ID)
			check(t, err)
		}
	}
	s.stop(t, syscall.SIGKILL)
	out, errs, err := wrenn(t, nil, "uninstall", "--yes", "--data-dir", s.dir)
	if err != nil {
		t.Fatalf("uninstall: %v: %s%s", err, out, errs)
	}
	nothingLeft(t, s.dir, s.name)
	if _, err := os.Lstat(s.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the data directory is left: %v", err)
	}
	s.Client, s.name = nil, "" // nothing is to be destroyed
}
