package e2e

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// testCLI runs the scripts in testdata/script with the built program against
// the server.
func testCLI(t *testing.T, s *server) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("WRENN_URL", s.BaseURL)
			env.Setenv("WRENN_DATA_DIR", s.dir) // where the key is found
			env.Setenv("PATH", filepath.Dir(binary(t))+":"+env.Getenv("PATH"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// exit CODE COMMAND... runs a command that must end with CODE.
			"exit": func(ts *testscript.TestScript, _ bool, args []string) {
				got := 0
				var failed *exec.ExitError
				if err := ts.Exec(args[1], args[2:]...); errors.As(err, &failed) {
					got = failed.ExitCode()
				} else {
					ts.Check(err)
				}
				if args[0] != strconv.Itoa(got) {
					ts.Fatalf("ended with %d, want %s", got, args[0])
				}
			},
			// keep NAME makes the last standard output a variable.
			"keep": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
			},
		},
	})
}
