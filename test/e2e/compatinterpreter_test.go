package e2e

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/client"
)

// interpreterTemplate is the template of E2B's code interpreter.
const interpreterTemplate = "code-interpreter-v1"

// TestCompatInterpreter drives the template code-interpreter-v1 with the unmodified clients
// of E2B's code interpreter, in both languages.
func TestCompatInterpreter(t *testing.T) {
	t.Parallel()
	runInterpreter(t, "auto", 0)
}

// TestCompatInterpreterInVM is TestCompatInterpreter in microVMs. Without KVM it takes some
// fifteen minutes, and is therefore left out unless WRENN_TEST_SLOW is set.
func TestCompatInterpreterInVM(t *testing.T) {
	if os.Getenv("WRENN_TEST_SLOW") == "" {
		t.Skip("WRENN_TEST_SLOW is not set")
	}
	runInterpreter(t, "microvm", 30*time.Minute)
}

// runInterpreter runs the suites of the code interpreter in sandboxes of a runtime. limit
// bounds each suite; 0 is the usual limit.
func runInterpreter(t *testing.T, runtime string, limit time.Duration) {
	t.Helper()
	dir := compatClients(t)
	needTemplate(t, interpreterTemplate)
	s := startUp(t, "--runtime", runtime, "--templates", interpreterTemplate)
	awaitInterpreter(t, s)
	for _, suite := range []compatSuite{
		{
			name: "js", needs: "node_modules/@e2b/code-interpreter", argv: []string{"node", "js/interpreter.mjs"},
			env: []string{"COMPAT_SDK=@e2b/code-interpreter"}, limit: limit,
		},
		{name: "python", needs: "v2/.installed", argv: []string{"v2/bin/python", "-B", "python/interpreter.py"}, limit: limit},
	} {
		t.Run(suite.name, func(t *testing.T) { suite.run(t, dir, s, compatAddresses(s)) })
	}
}

// awaitInterpreter creates a sandbox as soon as the host has prepared the template, which
// may take longer than a create waits, and destroys it.
func awaitInterpreter(t *testing.T, s *server) {
	t.Helper()
	for {
		sb, err := s.Create(t.Context(), client.CreateRequest{Template: interpreterTemplate})
		var refused *client.Error
		switch {
		case err == nil:
			check(t, s.Destroy(t.Context(), sb.ID))
			return
		case !errors.As(err, &refused) || refused.Code != "template_preparing":
			t.Fatalf("create a sandbox of %s: %v", interpreterTemplate, err)
		}
	}
}
