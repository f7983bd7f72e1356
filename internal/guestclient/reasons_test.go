package guestclient

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// hostOnly are reasons of the guest agent that the host answers for itself.
var hostOnly = map[string]bool{"internal": true, reasonUnauthenticated: true}

// TestEveryReasonOfTheGuestIsKnown reads the guest agent's source for the
// reasons of its faults, so that none is lost on its way to the caller.
func TestEveryReasonOfTheGuestIsKnown(t *testing.T) {
	found := 0
	err := filepath.WalkDir("../guest", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if reason, ok := faultReason(n); ok {
				found++
				if !reasons[reason] && !hostOnly[reason] {
					t.Errorf("%s has the reason %q, which faults.go does not list", path, reason)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found < 40 {
		t.Errorf("only %d faults were found in the guest agent's source", found)
	}
}

// faultReason returns the reason of a call of fault.New or fault.Wrap that is
// written out.
func faultReason(n ast.Node) (string, bool) {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return "", false
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if pkg, isIdent := packageOf(sel); !ok || !isIdent || pkg != "fault" {
		return "", false
	}
	arg := map[string]int{"New": 1, "Wrap": 2}[sel.Sel.Name]
	if arg == 0 || len(call.Args) <= arg {
		return "", false
	}
	lit, ok := call.Args[arg].(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	reason, err := strconv.Unquote(lit.Value)
	return reason, err == nil && reason != ""
}

func packageOf(sel *ast.SelectorExpr) (string, bool) {
	if sel == nil {
		return "", false
	}
	id, ok := sel.X.(*ast.Ident)
	if !ok {
		return "", false
	}
	return id.Name, true
}
