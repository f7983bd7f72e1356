package cli_test

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/wrenn-dev/wrenn/internal/cli"
	"github.com/wrenn-dev/wrenn/internal/daemon"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"wrenn": func() {
		app := cli.New(cli.IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, LookupEnv: os.LookupEnv})
		ctx, stop := daemon.OnSignals(context.Background(), func(code int) {
			if app.MayExit() {
				os.Exit(code)
			}
		})
		code := app.Run(ctx, os.Args[1:])
		stop()
		os.Exit(code)
	}})
}

// TestScripts runs the scripts in testdata/script, each against a fake server
// of its own. They are the manual, too.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			f, url := newFake(env.T().(testing.TB))
			env.Values["fake"] = f
			env.Setenv("WRENN_URL", url)
			// The race detector lets each command sleep for a second before it ends.
			env.Setenv("GORACE", "atexit_sleep_ms=20")
			// A server of this machine has no part in the tests.
			env.Setenv("WRENN_DATA_DIR", filepath.Join(env.WorkDir, "none"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// needkey KEY makes the server demand an API key from now on.
			"needkey": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Value("fake").(*fake).demand(args[0])
			},
			// exit CODE COMMAND... runs a command that must end with CODE.
			"exit": func(ts *testscript.TestScript, _ bool, args []string) {
				err := ts.Exec(args[1], args[2:]...)
				if got := exitCode(err); err == nil || args[0] != strconv.Itoa(got) {
					ts.Fatalf("ended with %d (%v), want %s", got, err, args[0])
				}
			},
		},
	})
}
