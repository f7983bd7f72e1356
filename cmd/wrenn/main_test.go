package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/cli"
	"github.com/wrenn-dev/wrenn/internal/daemon"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/kvmprobe"
)

func TestMain(m *testing.M) {
	kvmprobe.MaybeChild()
	os.Exit(m.Run())
}

// outcome is the result of a command line.
type outcome struct {
	code     int
	out, err string
}

// wrenn runs one command line in this process. env has NAME=VALUE.
func wrenn(t *testing.T, env []string, args ...string) outcome {
	t.Helper()
	var out, errs bytes.Buffer
	lookup := func(name string) (string, bool) {
		for _, e := range env {
			if k, v, _ := strings.Cut(e, "="); k == name {
				return v, true
			}
		}
		return "", false
	}
	code := newProgram(cli.IO{In: strings.NewReader(""), Out: &out, Err: &errs, LookupEnv: lookup}).Run(t.Context(), args)
	return outcome{code, out.String(), errs.String()}
}

func TestWrongCommandLines(t *testing.T) {
	cases := []struct {
		args []string
		env  []string
		want string
	}{
		{args: []string{"up", "surplus"}, want: `up takes no argument "surplus"`},
		{args: []string{"up", "--log-format", "xml"}, want: `--log-format must be text or json, not "xml"`},
		{args: []string{"up"}, env: []string{"WRENN_LOG_LEVEL=loud"}, want: "--log-level must be debug, info, warn or error"},
		{args: []string{"up"}, env: []string{"WRENN_RETENTION=soon"}, want: "the environment variable WRENN_RETENTION: "},
		{args: []string{"up", "--listen", "8080"}, want: "--listen must be host:port"},
		{args: []string{"up", "--min-isolation", "total"}, want: "minimum isolation"},
		{args: []string{"up", "--accel", "hvf"}, want: "--accel must be auto, kvm or tcg"},
		{args: []string{"up", "--runtime", "docker"}, want: `--runtime must be auto, microvm or gvisor, not "docker"`},
		{args: []string{"agent"}, env: []string{"WRENN_RUNTIME=docker"}, want: "--runtime must be auto, microvm or gvisor"},
		{args: []string{"up", "--pool", "runtime=docker,size=1"}, want: "runtime must be"},
		{args: []string{"up", "--nameserver", "dns.example"}, want: "--nameserver must be an IP address"},
		{args: []string{"up", "--data-fs", "zfs"}, want: "--data-fs is auto, xfs or none"},
		{args: []string{"agent", "--data-fs-size", "200"}, want: "--data-fs-size must be a number with M, G or T after it"},
		{args: []string{"up"}, env: []string{"WRENN_DATA_FS_SIZE=100M"}, want: `at least 4G, not "100M"`},
		{args: []string{"server"}, want: "give DATABASE_URL or --database-url-file"},
		{args: []string{"server"}, env: []string{"DATABASE_URL=postgres://x"}, want: "give at least one --host NAME=ADDRESS"},
		{args: []string{"server", "--host", "one"}, env: []string{"DATABASE_URL=postgres://x"}, want: "--host is NAME=ADDRESS"},
		{args: []string{"agent", "--listen", "127.0.0.1:7070"}, want: "needs --token-file, WRENN_TOKEN or --tls-client-ca"},
		{args: []string{"agent", "--token-file", "b"}, env: []string{"WRENN_TOKEN=a"}, want: "not both"},
		{args: []string{"agent", "--token", "a"}, want: "can read a secret on the command line"},
		{args: []string{"server", "--host-token=a"}, want: "use --host-token-file, or set WRENN_HOST_TOKEN"},
		{args: []string{"server", "--database-url", "postgres://u:p@h/d"}, want: "use --database-url-file, or set DATABASE_URL"},
		{args: []string{"up", "--database-url=postgres://u:p@h/d"}, want: "can read a secret on the command line"},
		{args: []string{"up", "--listen", "0.0.0.0:8080"}, want: "clear text"},
		{args: []string{"up", "--listen", ":8080"}, want: "--tls-cert and --tls-key"},
		{args: []string{"up", "--listen", "[::]:8080", "--no-auth"}, want: "allows only this machine"},
		{args: []string{"up", "--tls-cert", "x"}, want: "--tls-cert and --tls-key go together"},
		{args: []string{"up", "--tls-cert", "/nosuch", "--tls-key", "/nosuch"}, want: "no such file"},
		{args: []string{"agent", "--listen", "0.0.0.0:7070"}, env: []string{"WRENN_TOKEN=a"}, want: "--tls-cert, --tls-key and --tls-client-ca"},
		{args: []string{"agent", "--tls-client-ca", "/nosuch"}, want: "no such file"},
		{args: []string{"server", "--host", "one=http://10.1.2.3:7070"}, env: []string{"DATABASE_URL=postgres://x", "WRENN_HOST_TOKEN=a"}, want: "must be reached with https"},
		{args: []string{"server", "--host", "one=https://10.1.2.3:7070"}, env: []string{"DATABASE_URL=postgres://x"}, want: "needs a token, or https and a certificate"},
		{args: []string{"agent", "--token-file", "/nosuch"}, want: "/nosuch"},
		{args: []string{"image", "build", "alpine"}, want: `no recipe for the template "alpine"`},
		{args: []string{"up", "--templates", "minimal,alpine"}, want: `no recipe for the template "alpine"`},
		{args: []string{"uninstall", "--yes", "--data-dir", ""}, want: "--data-dir must name a directory"},
		{args: []string{"uninstall"}, want: "confirm with --yes"},
		{args: []string{"key", "create"}, want: "create needs a NAME for the key"},
	}
	for _, c := range cases {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			got := wrenn(t, c.env, c.args...)
			if strings.Contains(got.err, "u:p@h") {
				t.Errorf("the message shows the secret: %s", got.err)
			}
			if got.code != 2 || !strings.Contains(got.err, c.want) || !strings.Contains(got.err, "usage: wrenn "+c.args[0]) {
				t.Errorf("ended with %d and %q, want 2 and %q", got.code, got.err, c.want)
			}
		})
	}
}

func TestDownWithoutUp(t *testing.T) {
	got := wrenn(t, nil, "down", "--data-dir", t.TempDir())
	if got.code != 0 || !strings.Contains(got.err, "no wrenn up uses") {
		t.Errorf("got %+v", got)
	}
}

func TestSecondUpIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("wrenn up needs root")
	}
	dir := filepath.Join(t.TempDir(), "my data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	release, err := daemon.Lock(layout{dir}.lock())
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	got := wrenn(t, nil, "up", "--data-dir", dir)
	if got.code != 1 || !strings.Contains(got.err, "(already_up)") || !strings.Contains(got.err, "wrenn down --data-dir '"+dir+"'") {
		t.Errorf("got %+v", got)
	}
}

// TestKeys makes, lists and revokes a key in an embedded database that is
// started for each command.
func TestKeys(t *testing.T) {
	if testing.Short() {
		t.Skip("-short runs no PostgreSQL")
	}
	if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb"); len(found) == 0 {
		if slices.Contains(strings.Split(os.Getenv("WRENN_REQUIRE"), ","), "pg") {
			t.Fatal("PostgreSQL is required and not installed")
		}
		t.Skip("PostgreSQL is not installed")
	}
	// Not t.TempDir: the server runs as another user, who must get in.
	dir, err := os.MkdirTemp("", "wrenn-key-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}

	made := wrenn(t, []string{"WRENN_DATA_DIR=" + dir}, "key", "create", "ci")
	if made.code != 0 || !strings.HasPrefix(made.out, "wrn_") {
		t.Fatalf("create: %+v", made)
	}
	var keys []keyOutput
	listed := wrenn(t, nil, "key", "ls", "--json", "--data-dir", dir)
	if err := json.Unmarshal([]byte(listed.out), &keys); err != nil || len(keys) != 1 || keys[0].Name != "ci" || keys[0].Key != "" {
		t.Fatalf("ls: %+v (%v)", listed, err)
	}
	if got := wrenn(t, nil, "key", "revoke", "--data-dir", dir, keys[0].ID); got.code != 0 {
		t.Errorf("revoke: %+v", got)
	}
	if got := wrenn(t, nil, "key", "revoke", "--data-dir", dir, "key_nosuch"); got.code != 1 {
		t.Errorf("revoke of an unknown key: %+v", got)
	}
}

// TestHintsNameTheProgramAsItWasStarted has a server that is not there: the
// hint must be a command that exists.
func TestHintsNameTheProgramAsItWasStarted(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if got := programName("bin/wrenn"); got != "bin/wrenn" {
		t.Errorf("not in PATH: got %q, want bin/wrenn", got)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(os.Getenv("PATH"), "wrenn")); err != nil {
		t.Fatal(err)
	}
	if got := programName("bin/wrenn"); got != "wrenn" {
		t.Errorf("in PATH: got %q, want wrenn", got)
	}
	var errs bytes.Buffer
	none := func(string) (string, bool) { return "", false }
	io := cli.IO{In: strings.NewReader(""), Out: &errs, Err: &errs, LookupEnv: none, Program: "bin/wrenn"}
	newProgram(io).Run(t.Context(), []string{"ls", "--url", "http://127.0.0.1:1"})
	if !strings.Contains(errs.String(), "`bin/wrenn up`") {
		t.Errorf("the hint without a server is %q, want `bin/wrenn up` in it", errs.String())
	}
}

func TestVersion(t *testing.T) {
	if got := wrenn(t, nil, "--version"); got.code != 0 || got.out != "wrenn "+version+"\n" {
		t.Errorf("--version: %+v", got)
	}
	for _, args := range [][]string{{"key", "nosuch"}, {"image", "nosuch"}, {"key"}, {"nosuch"}} {
		if got := wrenn(t, nil, args...); got.code != 2 {
			t.Errorf("wrenn %v ended with %d, want 2", args, got.code)
		}
	}
	if got := wrenn(t, nil, "version"); got.code != 0 || !strings.HasPrefix(got.out, "wrenn "+version+" (go") {
		t.Errorf("got %+v", got)
	}
}

func TestHelpOfServersLeavesClientFlagsOut(t *testing.T) {
	if got := wrenn(t, nil, "up", "--help"); strings.Contains(got.out, "--api-key") || !strings.Contains(got.out, "--data-dir") {
		t.Errorf("got %s", got.out)
	}
	if got := wrenn(t, nil, "ls", "--help"); !strings.Contains(got.out, "--api-key") {
		t.Errorf("got %s", got.out)
	}
}
