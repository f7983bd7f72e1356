package e2e

import (
	"cmp"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/certs/certstest"
	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
)

// suiteTime bounds one suite of test/compat that names no limit of its own.
const suiteTime = 10 * time.Minute

// compatSuite is a program of test/compat with a client of E2B.
type compatSuite struct {
	name string
	// needs is the file of the client, below the directory of the clients.
	needs string
	argv  []string
	env   []string
	// template is the template without which the suite cannot run, or empty.
	template string
	// limit bounds the suite; 0 is suiteTime.
	limit time.Duration
}

// compatSuites lists the suites. Each client of a language runs the same programs.
func compatSuites() []compatSuite {
	var out []compatSuite
	for _, sdk := range []string{"e2b", "e2b250"} {
		for _, program := range []string{"sandboxes", "inside", "templates"} {
			out = append(out, compatSuite{
				name: "js " + sdk + " " + program, needs: "node_modules/" + sdk,
				argv: []string{"node", "js/" + program + ".mjs"}, env: []string{"COMPAT_SDK=" + sdk},
			})
		}
	}
	for _, version := range []string{"v1", "v2"} {
		programs := []string{"sync_suite", "async_suite", "templates_suite"}
		if version == "v2" {
			programs = append(programs, "integrations", "smolagents_suite")
		}
		for _, program := range programs {
			suite := compatSuite{
				name: "python " + version + " " + program, needs: version + "/.installed",
				argv: []string{version + "/bin/python", "-B", "python/" + program + ".py"},
			}
			if program == "smolagents_suite" {
				suite.template = "code-interpreter-v1"
			}
			out = append(out, suite)
		}
	}
	return append(out,
		compatSuite{name: "cli", needs: "node_modules/@e2b/cli", argv: []string{"node", "js/cli.mjs"}},
		compatSuite{name: "computesdk", needs: "node_modules/@computesdk/e2b", argv: []string{"node", "js/computesdk.mjs"}})
}

// TestCompat drives a server with the unmodified clients of E2B that test/compat pins.
// WRENN_COMPAT is the directory into which scripts/compat.sh has installed them.
func TestCompat(t *testing.T) {
	t.Parallel()
	dir := compatClients(t)
	registry, image := startRegistry(t)
	s := startUp(t, "--runtime", "auto", "--registry", registry+",insecure")
	for _, suite := range compatSuites() {
		suite.env = append(suite.env, "COMPAT_IMAGE="+image)
		t.Run(suite.name, func(t *testing.T) {
			needTemplate(t, suite.template)
			suite.run(t, dir, s, compatAddresses(s))
		})
	}
	destroyAll(t, s.Client, s.dir)
	dropLayers(t, s)
}

// TestCompatByDomain gives the clients nothing but the domain: the server has a
// certificate for the names below it, and they speak HTTP/2.
func TestCompatByDomain(t *testing.T) {
	t.Parallel()
	dir := compatClients(t)
	ca := certstest.New(t, "ca")
	const domain = "box.localhost"
	cert, key := ca.Issue(t, "api", domain, "*."+domain)
	data := dataDir(t)
	s := startKeyed(t, data, []string{
		"up", "--data-dir", data, "--network", hosttest.Range(t), "--listen", "127.0.0.1:0", "--runtime", "auto",
		"--domain", domain, "--tls-cert", cert, "--tls-key", key,
	}, ca.File)
	_, port, _ := strings.Cut(strings.TrimPrefix(s.BaseURL, "https://"), ":")
	for _, sdk := range []string{"e2b", "e2b250"} {
		suite := compatSuite{
			name: sdk, needs: "node_modules/" + sdk, argv: []string{"node", "--import", "./js/resolve.mjs", "js/domain.mjs"},
			env: []string{"COMPAT_SDK=" + sdk, "NODE_EXTRA_CA_CERTS=" + ca.File},
		}
		t.Run(suite.name, func(t *testing.T) { suite.run(t, dir, s, []string{"E2B_DOMAIN=" + domain + ":" + port}) })
	}
}

// TestCompatReportsChecks: a suite succeeds if all of its checks do, and if there is one.
// It needs no client of E2B.
func TestCompatReportsChecks(t *testing.T) {
	client := filepath.Join(t.TempDir(), "client.mjs")
	if err := os.WriteFile(client, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const js = "import { check, report } from './check.mjs'; check('good', () => {}); check('bad', () => { throw new Error('x') }); await report()"
	const python = "import check\n@check.check\ndef good(): pass\n@check.check\ndef bad(): raise Exception('x')\ncheck.report()"
	for _, argv := range [][]string{{"node", "--input-type=module", "-e", js}, {"python3", "-B", "-c", python}} {
		if _, err := exec.LookPath(argv[0]); err != nil {
			t.Logf("not checked: %v", err)
			continue
		}
		for only, want := range map[string]bool{"good": true, "bad": false, "": false, "none": false} {
			cmd := exec.Command(argv[0], argv[1:]...)
			cmd.Dir = filepath.Join("..", "compat", map[string]string{"node": "js", "python3": "python"}[argv[0]])
			cmd.Env = append(os.Environ(), "COMPAT_ONLY="+only, "COMPAT_SDK="+client)
			out, err := cmd.CombinedOutput()
			if (err == nil) != want || !strings.Contains(string(out), " passed, ") {
				t.Errorf("%s with COMPAT_ONLY=%q: got %v, want success: %t\n%s", argv[0], only, err, want, out)
			}
		}
	}
}

// compatClients returns the directory of the installed clients.
func compatClients(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("WRENN_COMPAT")
	switch {
	case dir != "":
	case hosttest.Required("compat"):
		t.Fatal("WRENN_REQUIRE demands the clients of E2B, but WRENN_COMPAT does not name them; run scripts/compat.sh")
	default:
		t.Skip("no clients of E2B here; scripts/compat.sh installs them")
	}
	needVMs(t)
	needRunsc(t)
	return dir
}

// needTemplate skips the test if a template is not prepared on this machine, or fails it
// if WRENN_REQUIRE demands the clients.
func needTemplate(t *testing.T, name string) {
	t.Helper()
	_, err := os.Stat(filepath.Join(hosttest.ImagesDir(), "templates", name, "current"))
	switch {
	case name == "" || err == nil:
	case hosttest.Required("compat"):
		t.Fatalf("the template %s is not prepared: %v; scripts/compat.sh prepares it", name, err)
	default:
		t.Skipf("the template %s is not prepared; scripts/compat.sh prepares it", name)
	}
}

// run runs the suite against s, which its client finds by address, and checks that it
// succeeds. Older versions of the clients send keys with one start only.
func (c compatSuite) run(t *testing.T, dir string, s *server, address []string) {
	if _, err := os.Stat(filepath.Join(dir, c.needs)); err != nil {
		t.Fatalf("this client is not installed: %v; run scripts/compat.sh", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), cmp.Or(c.limit, suiteTime))
	defer cancel()
	cmd := exec.CommandContext(ctx, program(dir, c.argv[0]), c.argv[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), c.env...)
	cmd.Env = append(cmd.Env, "E2B_API_KEY=e2b_"+strings.TrimPrefix(s.APIKey, "wrn_"), "NO_COLOR=1")
	cmd.Env = append(cmd.Env, address...)
	cmd.Env = append(cmd.Env, "COMPAT_OUTSIDE="+hosttest.Greeter(t).String())
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatalf("the suite failed: %v\n%s", err, s.tail(40))
	}
}

// program is the path of a program that is installed with the clients in dir, or the name
// of one that the machine has.
func program(dir, name string) string {
	path := filepath.Join(dir, "node_modules", ".bin", name)
	if _, err := os.Stat(path); err != nil {
		return name
	}
	return path
}

// compatAddresses is the setting of a server that clients find by its address.
func compatAddresses(s *server) []string {
	_, address, _ := strings.Cut(s.BaseURL, "://")
	_, port, _ := strings.Cut(address, ":")
	return []string{"E2B_API_URL=" + s.BaseURL, "E2B_SANDBOX_URL=" + s.BaseURL, "E2B_DOMAIN=localhost:" + port}
}
