package pgserver_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/pgserver"
)

// helperDir makes the test binary run a server in the directory it names
// instead of the tests, so that a test can kill the whole process.
const helperDir = "WRENN_TEST_PGSERVER_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(helperDir); dir != "" {
		serveForEver(dir)
	}
	os.Exit(m.Run())
}

func serveForEver(dir string) {
	ctx := context.Background()
	s, err := pgserver.Open(ctx, pgserver.Config{Dir: dir}, slog.New(slog.DiscardHandler))
	if err == nil {
		err = s.Run(ctx, func() { fmt.Println("ready") })
	}
	fmt.Println(err)
	os.Exit(1)
}

func needPostgres(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("-short runs no PostgreSQL")
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/psql")
	if len(found) == 0 {
		if slices.Contains(strings.Split(os.Getenv("WRENN_REQUIRE"), ","), "pg") {
			t.Fatal("PostgreSQL is required and not installed in /usr/lib/postgresql")
		}
		t.Skip("PostgreSQL is not installed in /usr/lib/postgresql")
	}
	return found[len(found)-1]
}

// newDir returns a directory that the unprivileged server can reach, unlike
// those of t.TempDir.
func newDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "wrenn-pg-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "postgres")
}

// served is a server under Run.
type served struct {
	*pgserver.Server
	t     *testing.T
	dir   string
	psql  string
	ready chan struct{}
	stop  func()
}

func serve(t *testing.T, dir string) *served {
	t.Helper()
	return serveWith(t, dir, slog.New(slog.NewTextHandler(t.Output(), nil)))
}

func serveWith(t *testing.T, dir string, log *slog.Logger) *served {
	t.Helper()
	v := &served{t: t, dir: dir, psql: needPostgres(t), ready: make(chan struct{}, 16)}
	var err error
	v.Server, err = pgserver.Open(t.Context(), pgserver.Config{Dir: dir}, log)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- v.Run(ctx, func() { v.ready <- struct{}{} }) }()
	stopped := false
	v.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := v.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	t.Cleanup(v.stop)
	<-v.ready
	return v
}

// sql runs statements as a client of the server and returns their output.
func (v *served) sql(statements string) string {
	v.t.Helper()
	out, err := exec.Command(v.psql, v.URL(), "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", statements).CombinedOutput()
	if err != nil {
		v.t.Fatalf("psql %q: %v: %s", statements, err, out)
	}
	return strings.TrimSpace(string(out))
}

func postmasterPID(t *testing.T, dir string) int {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := bytes.Cut(raw, []byte("\n"))
	pid, err := strconv.Atoi(string(first))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func wantReason(t *testing.T, err error, reason string) {
	t.Helper()
	if got := fault.ReasonOf(err); got != reason {
		t.Fatalf("got %q (%v), want the fault %q", got, err, reason)
	}
}

func TestDataSurvivesStopKillAndRestart(t *testing.T) {
	dir := newDir(t)
	v := serve(t, dir)
	v.sql("CREATE TABLE t (n int); INSERT INTO t VALUES (1)")
	if got := v.sql("SHOW listen_addresses"); got != "" {
		t.Errorf("the server listens on TCP: %q", got)
	}

	_, err := pgserver.Open(t.Context(), pgserver.Config{Dir: dir}, slog.New(slog.DiscardHandler))
	wantReason(t, err, "postgres_in_use")

	if err := syscall.Kill(postmasterPID(t, dir), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-v.ready
	v.sql("INSERT INTO t VALUES (2)")
	v.stop()
	if _, err := os.Stat(filepath.Join(dir, "data", "postmaster.pid")); err == nil {
		t.Error("postmaster.pid is left after an orderly stop")
	}

	v = serve(t, dir)
	if got := v.sql("SELECT sum(n) FROM t"); got != "3" {
		t.Errorf("sum after a restart is %q, want 3", got)
	}
}

// TestUnusualPath runs the server in a directory whose name has characters with
// a meaning in a URL, in a list of PostgreSQL's and in a shell.
func TestUnusualPath(t *testing.T) {
	parent := filepath.Join(filepath.Dir(newDir(t)), `a b;c+d%20"e'f&g=h`)
	if err := os.Mkdir(parent, 0o711); err != nil {
		t.Fatal(err)
	}
	v := serve(t, filepath.Join(parent, "postgres"))
	if got := v.sql("SELECT 1"); got != "1" {
		t.Errorf("SELECT 1 in %s: got %q", parent, got)
	}
	conn, err := pgx.Connect(t.Context(), v.URL())
	if err != nil {
		t.Fatalf("pgx cannot connect in %s: %v", parent, err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestKilledOwnerLeavesUsableDirectory(t *testing.T) {
	needPostgres(t)
	dir := newDir(t)
	owner := exec.Command(os.Args[0])
	owner.Env = append(os.Environ(), helperDir+"="+dir)
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the owner says %q", line)
	}
	orphan := postmasterPID(t, dir)
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait()

	v := serve(t, dir)
	v.sql("SELECT 1")
	// A process that has ended and waits for init to reap it has no program.
	if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", orphan)); err == nil && filepath.Base(exe) == "postgres" {
		t.Errorf("the postmaster %d of the killed owner still lives", orphan)
	}
}

// TestStalePIDIsIgnored records the id of a living process that has nothing to
// do with the cluster, as happens when ids are used again after a crash.
func TestStalePIDIsIgnored(t *testing.T) {
	dir := newDir(t)
	v := serve(t, dir)
	v.stop()
	record := fmt.Sprintf("%d\n%s\n1\n5432\n%s\n\n\nready\n", os.Getpid(), filepath.Join(dir, "data"), filepath.Join(dir, "run"))
	if err := os.WriteFile(filepath.Join(dir, "data", "postmaster.pid"), []byte(record), 0o600); err != nil {
		t.Fatal(err)
	}
	serve(t, dir).sql("SELECT 1")
}

func TestUnusableDirectories(t *testing.T) {
	needPostgres(t)
	cases := []struct {
		name, reason string
		prepare      func(t *testing.T) pgserver.Config
	}{
		{"path too long", "postgres_path_too_long", func(t *testing.T) pgserver.Config {
			parent := filepath.Join(filepath.Dir(newDir(t)), strings.Repeat("long", 25))
			if err := os.Mkdir(parent, 0o711); err != nil {
				t.Fatal(err)
			}
			return pgserver.Config{Dir: filepath.Join(parent, "postgres")}
		}},
		{"path with a comma", "postgres_path_comma", func(t *testing.T) pgserver.Config {
			parent := filepath.Join(filepath.Dir(newDir(t)), "a,b")
			if err := os.Mkdir(parent, 0o711); err != nil {
				t.Fatal(err)
			}
			return pgserver.Config{Dir: filepath.Join(parent, "postgres")}
		}},
		{"parent missing", "postgres_dir", func(t *testing.T) pgserver.Config {
			return pgserver.Config{Dir: filepath.Join(newDir(t), "a", "b")}
		}},
		{"other major version", "postgres_version", func(t *testing.T) pgserver.Config {
			return pgserver.Config{Dir: fakeCluster(t, "9.6\n")}
		}},
		{"no cluster", "postgres_cluster", func(t *testing.T) pgserver.Config {
			return pgserver.Config{Dir: fakeCluster(t, "")}
		}},
		{"no binaries", "postgres_missing", func(t *testing.T) pgserver.Config {
			return pgserver.Config{Dir: newDir(t), BinDir: "/usr/share"}
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cfg := c.prepare(t)
			_, err := pgserver.Open(t.Context(), cfg, slog.New(slog.DiscardHandler))
			wantReason(t, err, c.reason)
			_, err = pgserver.Open(t.Context(), cfg, slog.New(slog.DiscardHandler))
			wantReason(t, err, c.reason) // a refused directory is not left locked
		})
	}
}

func TestUnreachableParentIsNamed(t *testing.T) {
	needPostgres(t)
	if os.Geteuid() != 0 {
		t.Skip("only root runs the server as another user")
	}
	dir := newDir(t)
	parent := filepath.Dir(dir)
	if err := os.Chmod(parent, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := pgserver.Open(t.Context(), pgserver.Config{Dir: dir}, slog.New(slog.DiscardHandler))
	wantReason(t, err, "postgres_unreachable")
	if public := fault.As(err).Public; !strings.Contains(public, "chmod o+x "+parent+"`") {
		t.Errorf("the advice does not name %s: %s", parent, public)
	}
}

// fakeCluster makes a data directory with only a PG_VERSION, or without one.
func fakeCluster(t *testing.T, version string) string {
	t.Helper()
	dir := newDir(t)
	data := filepath.Join(dir, "data")
	if err := os.MkdirAll(data, 0o711); err != nil {
		t.Fatal(err)
	}
	if version != "" {
		if err := os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte(version), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(data, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
