package errorcodes_test

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

// site is a place in the source that makes an error.
type site struct {
	// where is the file and line, pkg the directory, from the root of the module.
	where, pkg string
	// kind is the name of the kind's constant, empty for a variable; code is
	// empty when it is the code of another error, passed on.
	kind, code string
}

// source collects the results of the walk over the source.
type source struct {
	fset  *token.FileSet
	files map[string]*ast.File
	// consts are the constants' values, by package name and name.
	consts map[string]ast.Expr
}

const root = "../.."

// readSource parses all files except tests and generated code.
func readSource(t *testing.T) *source {
	t.Helper()
	src := &source{fset: token.NewFileSet(), files: map[string]*ast.File{}, consts: map[string]ast.Expr{}}
	for _, top := range []string{"internal", "cmd"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && d.Name() == "testdata":
				return filepath.SkipDir
			case d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
				return nil
			}
			f, err := parser.ParseFile(src.fset, path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			src.files[path] = f
			src.collectConsts(f)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return src
}

func (src *source) collectConsts(f *ast.File) {
	for _, decl := range f.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok || gen.Tok != token.CONST {
			continue
		}
		for _, spec := range gen.Specs {
			values := spec.(*ast.ValueSpec)
			for i, name := range values.Names {
				if i < len(values.Values) {
					src.consts[f.Name.Name+"."+name.Name] = values.Values[i]
				}
			}
		}
	}
}

func literal(e ast.Expr) string {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return ""
	}
	text, _ := strconv.Unquote(lit.Value)
	return text
}

// value returns the string that e is in a file of package pkg, or "". A constant
// may be another one's.
func (src *source) value(pkg string, e ast.Expr) string {
	name := ""
	switch e := e.(type) {
	case *ast.Ident:
		name = pkg + "." + e.Name
	case *ast.SelectorExpr:
		if x, ok := e.X.(*ast.Ident); ok {
			pkg, name = x.Name, x.Name+"."+e.Sel.Name
		}
	default:
		return literal(e)
	}
	if of, ok := src.consts[name]; ok {
		return src.value(pkg, of)
	}
	return ""
}

// sites returns every call of fault.New and fault.Wrap.
func (src *source) sites() []site {
	var out []site
	for path, f := range src.files {
		rel, _ := filepath.Rel(root, path)
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			first := constructor(call)
			if first < 0 || len(call.Args) < first+2 {
				return true
			}
			st := site{
				where: rel + ":" + strconv.Itoa(src.fset.Position(call.Pos()).Line), pkg: filepath.ToSlash(filepath.Dir(rel)),
				code: src.value(f.Name.Name, call.Args[first+1]),
			}
			if kind, ok := call.Args[first].(*ast.SelectorExpr); ok && isIdent(kind.X, "fault") {
				st.kind = kind.Sel.Name
			}
			out = append(out, st)
			return true
		})
	}
	return out
}

// constructor returns the place of the kind in a call that makes a fault, or -1.
func constructor(call *ast.CallExpr) int {
	fun, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || !isIdent(fun.X, "fault") {
		return -1
	}
	switch fun.Sel.Name {
	case "New":
		return 0
	case "Wrap":
		return 1
	}
	return -1
}

func isIdent(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}
