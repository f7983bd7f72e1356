package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
)

// TestCompatInterpreter drives the template code-interpreter-v1 with the unmodified clients
// of E2B's code interpreter, in both languages.
func TestCompatInterpreter(t *testing.T) {
	t.Parallel()
	dir := compatClients(t)
	const template = "code-interpreter-v1"
	if _, err := os.Stat(filepath.Join(os.Getenv("WRENN_TEST_IMAGES"), "templates", template, "current")); err != nil {
		if hosttest.Required("compat") {
			t.Fatalf("the template is not prepared: %v; run \"wrenn image build %s\"", err, template)
		}
		t.Skip("the template is not prepared")
	}
	s := startUp(t, "--runtime", "auto", "--templates", template)
	for _, suite := range []compatSuite{
		{
			name: "js", needs: "node_modules/@e2b/code-interpreter", argv: []string{"node", "js/interpreter.mjs"},
			env: []string{"COMPAT_SDK=@e2b/code-interpreter"},
		},
		{name: "python", needs: "v2/.installed", argv: []string{"v2/bin/python", "-B", "python/interpreter.py"}},
	} {
		t.Run(suite.name, func(t *testing.T) { suite.run(t, dir, s, compatAddresses(s)) })
	}
}
