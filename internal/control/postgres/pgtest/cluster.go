package pgtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
)

// cluster is a temporary PostgreSQL server, reached by a unix socket only.
//
// Invariants: the server's parent is one locked thread of this process, which
// lives until stop, so that the kernel ends the server if this process dies;
// dir holds all its files and goes with it.
type cluster struct {
	dir string
	// end asks the owner of the process to stop it, done closes when it has.
	end, done chan struct{}
}

// startCluster makes and starts a server, and returns when it answers.
func startCluster() (*cluster, error) {
	bin, err := binDir()
	if err != nil {
		return nil, err
	}
	cred, err := credential()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "wrenn-pg")
	if err != nil {
		return nil, err
	}
	c := &cluster{dir: dir, end: make(chan struct{}), done: make(chan struct{})}
	if err := c.prepare(bin, cred); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	cmd := c.command(cred, bin, "postgres", "-D", c.data(), "-k", dir,
		"-c", "listen_addresses=", "-c", "fsync=off", "-c", "full_page_writes=off",
		"-c", "synchronous_commit=off", "-c", "max_connections=200")
	log, err := cmd.StderrPipe()
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	started := make(chan error)
	go c.own(cmd, started)
	if err := <-started; err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	lines := bufio.NewScanner(log)
	if err := c.await(lines); err != nil {
		c.stop()
		return nil, err
	}
	go func() { // ends with the server, whose log must not fill the pipe
		for lines.Scan() {
		}
	}()
	return c, nil
}

func (c *cluster) data() string { return filepath.Join(c.dir, "data") }

func (c *cluster) url() *url.URL {
	return &url.URL{Scheme: "postgres", Path: "/postgres", RawQuery: url.Values{"host": {c.dir}, "user": {"wrenn"}}.Encode()}
}

func (c *cluster) prepare(bin string, cred *syscall.Credential) error {
	if cred != nil {
		if err := os.Chown(c.dir, int(cred.Uid), int(cred.Gid)); err != nil {
			return err
		}
	}
	out, err := c.command(cred, bin, "initdb", "-D", c.data(), "-U", "wrenn", "-A", "trust",
		"--no-sync", "--encoding=UTF8", "--locale=C.UTF-8").CombinedOutput()
	if err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	return nil
}

func (c *cluster) command(cred *syscall.Credential, bin, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(bin, name), args...)
	cmd.Dir = c.dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "TZ=UTC"}
	// SIGQUIT makes PostgreSQL end at once, with its children.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: cred, Pdeathsig: syscall.SIGQUIT}
	return cmd
}

// own starts the server, says so on started, and ends it when told to.
func (c *cluster) own(cmd *exec.Cmd, started chan<- error) {
	// Pdeathsig is about the thread that forked (prctl(2)).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(c.done)
	err := cmd.Start()
	started <- err
	if err != nil {
		return
	}
	<-c.end
	_ = cmd.Process.Signal(syscall.SIGQUIT)
	_ = cmd.Wait() // SIGQUIT is no clean end
}

// await returns when the server takes connections. It says so on its log, in a
// language and a form of its own; so each line is a reason to try.
func (c *cluster) await(lines *bufio.Scanner) error {
	ctx, cancel := context.WithTimeout(context.Background(), setupTimeout)
	defer cancel()
	var said []string
	for lines.Scan() {
		said = append(said, lines.Text())
		if conn, err := pgx.Connect(ctx, c.url().String()); err == nil {
			return conn.Close(ctx)
		}
	}
	return fmt.Errorf("PostgreSQL does not start: %s", strings.Join(said, "; "))
}

// stop ends the server, waits for it and removes its files.
func (c *cluster) stop() {
	close(c.end)
	<-c.done
	if err := os.RemoveAll(c.dir); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
	}
}

// binDir returns the newest of the distribution's server binaries.
func binDir() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path), nil
	}
	best, version := "", 0
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb") // the pattern is valid
	for _, path := range found {
		dir := filepath.Dir(path)
		if n, err := strconv.Atoi(filepath.Base(filepath.Dir(dir))); err == nil && n > version {
			best, version = dir, n
		}
	}
	if best == "" {
		return "", errors.New("no PostgreSQL server binaries are installed (apt install postgresql)")
	}
	return best, nil
}

// credential returns the user to run as; nil is this process's own. PostgreSQL
// refuses to run as root.
func credential() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return nil, err
		}
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}
