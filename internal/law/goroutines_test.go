package law_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A panic in a goroutine of its own ends the whole process, and with it every
// other sandbox's calls. So each goroutine of the server and the host agent runs
// its work under fault.Caught, or is listed here with the reason why not.
var unguarded = map[string]string{
	"internal/control/reconcile.go:run":               "loops that guard each round",
	"internal/control/service.go:Run":                 "loops that guard each round",
	"internal/control/hostloop.go:run":                "a loop that guards each round",
	"internal/control/templates/service.go:Run":       "a loop that guards each round, and builds that guard themselves",
	"internal/control/templates/log.go:newBuildLog":   "a loop that guards each round",
	"internal/control/rest/execinput.go:Read":         "a loop that guards each line",
	"internal/control/rest/idempotency.go:perform":    "a loop that guards each round",
	"internal/control/rest/serve.go:Serve":            "net/http guards each request",
	"internal/host/rpc/server.go:Serve":               "net/http and connect guard each request",
	"internal/host/chores.go:add":                     "a loop that guards each chore",
	"internal/host/instance/exit.go:UntilExit":        "only waits for two channels",
	"internal/host/manager.go:Open":                   "a loop that guards each round",
	"internal/host/manager.go:startLocked":            "a machine guards each operation, see act",
	"internal/host/pool.go:refill":                    "a loop that guards each round",
	"internal/host/probe.go:startProbes":              "a probe guards itself",
	"internal/host/recover.go:recoverMachines":        "only waits for a channel",
	"internal/host/network/standin.go:Plug":           "only copies frames, for the doctor",
	"internal/host/network/pool.go:Open":              "a loop that guards each round",
	"internal/host/network/garbage.go:keepGarbage":    "a loop that guards each round",
	"internal/host/vmm/qemu/launch.go:attach":         "only waits for the process",
	"internal/host/vmm/gvisor/console.go:openConsole": "only copies bytes to a buffer",
	"internal/daemon/signals.go:OnSignals":            "only waits for signals",
	"internal/pgserver/output.go:newOutput":           "only copies lines to the log",
	"internal/pgserver/postmaster.go:start":           "only waits for the process",
	"cmd/wrenn/database.go:whileServing":              "a command of its own, not the server",
}

// guardedRoots are the directories whose goroutines the law is for. In the guest
// the first process starts an agent again that has died; the doctor is a command.
var guardedRoots = []string{"internal/control", "internal/host", "internal/daemon", "internal/guestclient", "internal/pgserver", "cmd/wrenn"}

func TestGoroutinesAreGuarded(t *testing.T) {
	root := filepath.Join("..", "..")
	used := make(map[string]bool)
	for _, dir := range guardedRoots {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() && (d.Name() == "testdata" || d.Name() == "doctor" || strings.HasSuffix(d.Name(), "test")) {
				if err == nil {
					err = fs.SkipDir
				}
				return err
			}
			if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return nil
			}
			name, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			source, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, f := range unguardedIn(t, path, source) {
				key := filepath.ToSlash(name) + ":" + f
				used[key] = true
				if unguarded[key] == "" {
					t.Errorf("%s starts a goroutine that a panic would end the process from: run what it does under fault.Caught", key)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for key := range unguarded {
		if !used[key] {
			t.Errorf("%s is listed as unguarded and starts no such goroutine any more", key)
		}
	}
}

// unguardedIn returns the functions of a file that start a goroutine whose code
// does not name a guard.
func unguardedIn(t *testing.T, path string, source []byte) []string {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, source, 0)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, decl := range file.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok || fn.Body == nil {
			continue
		}
		bad := false
		ast.Inspect(fn.Body, func(n ast.Node) bool {
			var started ast.Node
			switch n := n.(type) {
			case *ast.GoStmt:
				started = n.Call
			case *ast.CallExpr:
				if sel, ok := n.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Go" && len(n.Args) == 1 {
					started = n.Args[0]
				}
			}
			if started != nil {
				text := source[set.Position(started.Pos()).Offset:set.Position(started.End()).Offset]
				bad = bad || !strings.Contains(string(text), "fault.Caught(") && !strings.Contains(string(text), ".guarded(")
			}
			return true
		})
		if bad {
			found = append(found, fn.Name.Name)
		}
	}
	return found
}
