package pgserver_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/pgserver"
)

// TestRetriedForAsLongAsItTakes kills a server that then cannot start. It is
// started again and again, more often than a few times, and serves its data when it
// can. On a full disk that holds for the first start as well.
func TestRetriedForAsLongAsItTakes(t *testing.T) {
	needPostgres(t)
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small file system")
	}
	mount := filepath.Dir(newDir(t))
	if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "size=256m,mode=0711"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mount, 0); err != nil {
			t.Error(err)
		}
	})
	dir := filepath.Join(mount, "postgres")
	failures := &counting{Handler: slog.NewTextHandler(t.Output(), nil), message: "PostgreSQL did not restart", seen: make(chan struct{}, 64)}
	v := serveWith(t, dir, slog.New(failures))
	v.sql("CREATE TABLE t (n int); INSERT INTO t VALUES (1)")

	// The effect of a full disk on a start depends on the free space left. Without
	// its control file the server never starts.
	control := filepath.Join(dir, "data", "global", "pg_control")
	unstartable := func(on bool) {
		t.Helper()
		from, to := control, control+".away"
		if !on {
			from, to = to, from
		}
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	unstartable(true)
	if err := syscall.Kill(postmasterPID(t, dir), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for range 7 {
		<-failures.seen
	}
	unstartable(false)
	<-v.ready
	if got := v.sql("INSERT INTO t VALUES (2); SELECT sum(n) FROM t"); got != "3" {
		t.Errorf("after many failed restarts the sum is %q, want 3", got)
	}
	v.stop()

	// A first start that fails ends Run, but where there is no space.
	unstartable(true)
	s, err := pgserver.Open(t.Context(), pgserver.Config{Dir: dir}, slog.New(failures))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	wantReason(t, s.Run(t.Context(), func() { t.Error("a server that cannot start is ready") }), "postgres_start")
	filler := filepath.Join(mount, "filler")
	fillUp(t, filler)
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan struct{}, 16), make(chan error, 1)
	go func() { ended <- s.Run(ctx, func() { ready <- struct{}{} }) }()
	<-failures.seen
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	unstartable(false)
	<-ready
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// fillUp makes a file at path that leaves no space.
func fillUp(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 1<<20); len(block) > 0; {
		if _, err := f.Write(block); err != nil {
			block = block[:len(block)/2]
		}
	}
}

// counting tells of each record with a message.
type counting struct {
	slog.Handler
	message string
	seen    chan struct{}
}

// Handle implements slog.Handler.
func (c *counting) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == c.message {
		select {
		case c.seen <- struct{}{}:
		default:
		}
	}
	return c.Handler.Handle(ctx, r)
}
