package rest

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// passedCases finds how many requests schemathesis made, and how many passed.
var passedCases = regexp.MustCompile(`(\d+) generated, (\d+) passed\n`)

// TestSchemathesis has schemathesis derive requests, right and wrong ones, from
// the document and hold the answers of the whole handler, behind a real
// listener, against it. scripts/clients.sh installs the pinned version and
// names it in WRENN_SCHEMATHESIS.
func TestSchemathesis(t *testing.T) {
	program := os.Getenv("WRENN_SCHEMATHESIS")
	if program == "" {
		t.Skip("WRENN_SCHEMATHESIS is not set; scripts/clients.sh sets it")
	}
	w := newWorld(t, func(c *Config) {
		c.Answers, c.Secrets, c.Templates = &fakeAnswers{}, &fakeSecret{secret: "secret"}, newFakeTemplates()
	})
	w.fake.exec = says(control.ExecResult{ExitCode: 1}, nil, "1:out", "2:err")
	w.fake.add(sandbox.Running)
	config, err := filepath.Abs("testdata/schemathesis.toml")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "--config-file", config, "run", w.url+"/openapi.yaml", "--url", w.url)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "NO_COLOR=1", "PYTHONPATH="+filepath.Dir(config), "PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("schemathesis: %v\n%s", err, out)
	}
	// A run that tried next to nothing must not be green.
	cases := passedCases.FindSubmatch(out)
	if cases == nil || string(cases[1]) != string(cases[2]) || len(cases[1]) < 4 {
		t.Errorf("schemathesis does not say that 1,000 requests or more passed:\n%s", out)
	}
	t.Logf("%s", out[max(0, len(out)-2000):])
}
