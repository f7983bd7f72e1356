package law_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/wrenn-dev/wrenn/"

// faults is the error package with its two projections.
var faults = []string{"internal/fault", "internal/fault/faulthttp", "internal/fault/faultrpc"}

// law lists the project's own packages that each package may import, besides
// generated code. All other imports are forbidden. "x/..." is x and all packages
// below it. Tests may import more.
var law = map[string][]string{
	"api":       {},
	"api/types": {},
	"client":    {"api/types"},

	"cmd/wrenn":       {"api", "client", "internal/..."},
	"cmd/wrenn-jail":  {"internal/host/vmm/jail"},
	"cmd/wrenn-guest": {"internal/guest/...", "internal/guestwire", "internal/fault"},

	"internal/linux/cgroupfs":  {},
	"internal/linux/durable":   {},
	"internal/linux/filesum":   {},
	"internal/linux/flock":     {},
	"internal/linux/proc":      {},
	"internal/linux/statfs":    {},
	"internal/linux/thread":    {},
	"internal/law":             {},
	"internal/fault":           {},
	"internal/undo":            {},
	"internal/errorcodes":      {"internal/fault", "internal/fault/faulthttp"},
	"internal/fault/faulthttp": {"internal/fault"},
	"internal/fault/faultrpc":  {"internal/fault"},
	"internal/sandbox":         {"internal/fault"},
	"internal/daemon":          {"internal/fault"},
	"internal/certs":           {"internal/linux/durable", "internal/linux/flock"},
	"internal/certs/certstest": {},
	"internal/pgserver":        {"internal/fault"},
	"internal/guestwire":       {},
	"internal/hostwire":        {"internal/sandbox"},
	"internal/tunnel":          {"internal/fault"},
	"internal/untrusted":       {},
	"internal/archive":         {},
	"internal/guestclient":     append([]string{"internal/guestwire", "internal/sandbox", "internal/untrusted"}, faults...),

	"internal/build/dockerfile": {"internal/build/plan", "internal/fault"},
	"internal/build/plan":       {},

	"internal/control":                 {"internal/control/placement", "internal/control/reconcile", "internal/sandbox", "internal/fault", "internal/fault/faultrpc"},
	"internal/control/placement":       {"internal/sandbox", "internal/fault"},
	"internal/control/reconcile":       {"internal/sandbox"},
	"internal/control/memstore":        {"internal/control", "internal/control/templates", "internal/build/plan", "internal/sandbox", "internal/fault"},
	"internal/control/sim":             {},
	"internal/control/storetest":       {"internal/control", "internal/control/templates", "internal/build/plan", "internal/sandbox", "internal/fault"},
	"internal/control/postgres":        {"internal/control", "internal/control/auth", "internal/control/templates", "internal/build/plan", "internal/sandbox", "internal/fault"},
	"internal/control/postgres/pgtest": {"internal/control/postgres", "internal/pgserver", "internal/fault"},
	"internal/control/hostclient":      {"internal/control", "internal/hostwire", "internal/tunnel", "internal/sandbox", "internal/fault", "internal/fault/faultrpc"},
	"internal/control/auth":            {"internal/control", "internal/fault"},
	"internal/control/e2b":             {"internal/control", "internal/control/auth", "internal/control/templates", "internal/build/plan", "internal/sandbox", "internal/fault", "internal/fault/faulthttp", "internal/untrusted"},
	"internal/control/duplex":          {},
	"internal/control/traffic":         {"internal/control", "internal/control/duplex", "internal/sandbox", "internal/tunnel", "internal/fault", "internal/fault/faulthttp"},
	"internal/control/templates":       {"internal/control", "internal/build/plan", "internal/build/dockerfile", "internal/archive", "internal/linux/durable", "internal/linux/flock", "internal/untrusted", "internal/sandbox", "internal/fault"},
	"internal/control/rest":            append([]string{"api", "api/types", "internal/errorcodes", "internal/control", "internal/control/auth", "internal/control/duplex", "internal/control/templates", "internal/build/plan", "internal/sandbox"}, faults...),

	"internal/host": {
		"internal/host/vmm", "internal/host/disk", "internal/host/network", "internal/host/image", "internal/host/oci",
		"internal/host/instance", "internal/host/journal", "internal/host/snapshot", "internal/host/cgroup", "internal/guestclient", "internal/sandbox", "internal/fault",
		"internal/untrusted", "internal/tunnel",
	},
	"internal/host/journal":           {"internal/host/network", "internal/host/vmm", "internal/sandbox", "internal/fault"},
	"internal/host/snapshot":          {"internal/host/vmm", "internal/host/disk", "internal/sandbox", "internal/fault"},
	"internal/host/instance":          {"internal/host/vmm", "internal/host/network", "internal/host/cgroup", "internal/guestclient", "internal/untrusted", "internal/fault"},
	"internal/host/vmm":               {"internal/sandbox", "internal/fault"},
	"internal/host/vmm/process":       {"internal/host/vmm"},
	"internal/host/vmm/kept":          {},
	"internal/host/vmm/emulator":      {"internal/host/vmm/kept", "internal/fault"},
	"internal/host/vmm/runsc":         {"internal/host/vmm/kept", "internal/host/disk", "internal/untrusted", "internal/fault"},
	"internal/host/vmm/mapped":        {"internal/host/vmm", "internal/host/memory", "internal/host/disk"},
	"internal/host/vmm/qemu":          {"internal/host/vmm", "internal/host/vmm/process", "internal/host/vmm/mapped", "internal/host/vmm/emulator", "internal/host/vmm/jail", "internal/host/vmm/tsc", "internal/sandbox", "internal/fault", "internal/untrusted"},
	"internal/host/vmm/gvisor":        {"internal/host/vmm", "internal/host/vmm/process", "internal/host/vmm/runsc", "internal/sandbox", "internal/host/vmm/tsc", "internal/host/disk", "internal/fault", "internal/untrusted"},
	"internal/host/vmm/preference":    {"internal/host/vmm/kvmprobe", "internal/sandbox"},
	"internal/host/vmm/jail":          {},
	"internal/host/vmm/vmmtest":       {"internal/host/vmm", "internal/guestclient", "internal/host/disk"},
	"internal/host/vmm/fake":          {"internal/host/vmm", "internal/host/vmm/mapped", "internal/host/memory", "internal/host/disk", "internal/guest/agent", "internal/guest/agent/agenttest", "internal/guest/channel", "internal/guestwire", "internal/sandbox", "internal/fault"},
	"internal/host/fakes":             {"internal/host/instance", "internal/host/vmm", "internal/host/network", "internal/host/cgroup", "internal/host/image", "internal/host/oci", "internal/fault"},
	"internal/host/vmm/kvmprobe":      {"internal/fault"},
	"internal/host/vmm/tsc":           {"internal/fault"},
	"internal/host/datafs":            {"internal/fault"},
	"internal/host/disk":              {"internal/fault"},
	"internal/host/network":           {"internal/fault", "internal/undo"},
	"internal/host/network/netnstest": {},
	"internal/host/image":             {"internal/host/oci", "internal/fault"},
	"internal/host/oci":               {"internal/archive", "internal/untrusted", "internal/fault"},
	"internal/host/memory":            {"internal/fault"},
	"internal/host/cgroup":            {"internal/fault"},
	"internal/host/doctor":            {"internal/host/...", "internal/sandbox", "internal/fault"},
	"internal/host/crashpoints":       {"internal/host/journal"},
	"internal/host/hosttest":          {"internal/host", "internal/host/..."},
	"internal/host/rpc":               {"internal/host", "internal/hostwire", "internal/tunnel", "internal/guestclient", "internal/sandbox", "internal/fault", "internal/fault/faultrpc"},

	"internal/host/vmm/vmmtest/escape":        {},
	"internal/host/vmm/vmmtest/escape/player": {"internal/host/vmm/vmmtest/escape"},

	"internal/guest/agent":           {"internal/guest/process", "internal/guest/filesystem", "internal/fault"},
	"internal/guest/agent/agenttest": {"internal/guest/process", "internal/fault"},
	"internal/guest/boot":            {"internal/guest/process", "internal/fault"},
	"internal/guest/channel":         {"internal/guest/agent", "internal/guest/filesystem", "internal/guest/listener", "internal/guestwire", "internal/tunnel", "internal/fault"},
	"internal/guest/envd":            append([]string{"internal/guest/agent", "internal/guest/process", "internal/guest/filesystem", "internal/guest/listener"}, faults...),
	"internal/guest/filesystem":      {"internal/archive", "internal/fault"},
	"internal/guest/listener":        {},
	"internal/guest/process":         {"internal/fault"},

	"internal/cli":   {"client", "internal/archive", "internal/build/dockerfile", "internal/build/plan", "internal/untrusted"},
	"internal/bench": {"client"},
}

// source summarizes the files of one package, without its tests.
type source struct {
	imports map[string]string // project package → the file that imports it
	doc     bool
	files   int
}

func TestImportLaw(t *testing.T) {
	packages := parseProduct(t)
	for _, name := range slices.Sorted(maps.Keys(packages)) {
		allowed, listed := law[name]
		if !listed {
			t.Errorf("package %s is not in the import law: add it, with what it may import", name)
			continue
		}
		for imported, file := range packages[name].imports {
			if !permits(name, allowed, imported) {
				t.Errorf("%s imports %s, which the law does not allow (%s)", name, imported, file)
			}
		}
	}
	for name := range law {
		if packages[name] == nil {
			t.Errorf("the import law names %s, which does not exist", name)
		}
	}
}

// TestDialectIsAtTheEdge: the program can be built without the dialect of E2B's clients.
// Only the file that wires the server imports it.
func TestDialectIsAtTheEdge(t *testing.T) {
	var users []string
	walk(t, func(_, file string, imports []string, _ bool) {
		if slices.Contains(imports, module+"internal/control/e2b") {
			users = append(users, file)
		}
	})
	if !slices.Equal(users, []string{"cmd/wrenn/control.go"}) {
		t.Errorf("internal/control/e2b is imported by %v, want cmd/wrenn/control.go alone", users)
	}
}

func TestEveryPackageHasADoc(t *testing.T) {
	for name, src := range parseProduct(t) {
		if !src.doc {
			t.Errorf("package %s has no package comment: say what it owns, who calls it, what it never does", name)
		}
	}
}

// TestOnlyOnePlaceUsesPgx keeps SQL behind the store.
func TestOnlyOnePlaceUsesPgx(t *testing.T) {
	users := 0
	walk(t, func(name, file string, imports []string, _ bool) {
		for _, imp := range imports {
			if strings.HasPrefix(imp, "github.com/jackc/pgx/") {
				users++
				if !strings.HasPrefix(name, "internal/control/postgres") {
					t.Errorf("%s uses pgx; internal/control/postgres is the only place for it", file)
				}
			}
		}
	})
	if users == 0 {
		t.Error("nothing uses pgx: this test has lost its subject")
	}
}

// groundFloor lists the packages that may import internal/linux/... as well. A
// package of the ground floor imports nothing of the project.
var groundFloor = []string{"cmd/wrenn", "internal/daemon", "internal/guest/...", "internal/host/...", "internal/pgserver", "internal/bench"}

func permits(importer string, allowed []string, imported string) bool {
	if strings.HasPrefix(imported, "internal/linux/") && among(groundFloor, importer) {
		return true
	}
	return among(allowed, imported)
}

// among reports whether a name is in a list, in which "x/..." is x and all below.
func among(list []string, name string) bool {
	return slices.ContainsFunc(list, func(a string) bool {
		if below, ok := strings.CutSuffix(a, "/..."); ok {
			return name == below || strings.HasPrefix(name, below+"/")
		}
		return a == name
	})
}

func parseProduct(t *testing.T) map[string]*source {
	t.Helper()
	packages := make(map[string]*source)
	walk(t, func(name, file string, imports []string, doc bool) {
		src := packages[name]
		if src == nil {
			src = &source{imports: make(map[string]string)}
			packages[name] = src
		}
		src.files++
		src.doc = src.doc || doc
		for _, imp := range imports {
			if own, ok := strings.CutPrefix(imp, module); ok && !strings.HasPrefix(own, "api/gen/") && !isGenerated(own) {
				src.imports[own] = file
			}
		}
	})
	if len(packages) < 20 {
		t.Fatalf("only %d packages found: the walk is broken", len(packages))
	}
	return packages
}

// isGenerated names packages whose code no one writes.
func isGenerated(pkg string) bool { return pkg == "internal/control/postgres/db" }

// walk calls visit for every Go file of the product.
func walk(t *testing.T, visit func(name, file string, imports []string, doc bool)) {
	t.Helper()
	root := os.DirFS("../..")
	err := fs.WalkDir(root, ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := path.Dir(file)
		if d.IsDir() {
			if skip(file) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") || isGenerated(name) {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join("../..", file), nil, parser.ParseComments|parser.ImportsOnly)
		if err != nil {
			return err
		}
		var imports []string
		for _, spec := range parsed.Imports {
			imports = append(imports, strings.Trim(spec.Path.Value, `"`))
		}
		visit(name, file, imports, parsed.Doc != nil)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func skip(dir string) bool {
	return strings.HasPrefix(dir, ".") && dir != "." || dir == "api/gen" || dir == "tools" || dir == "test" || dir == "bin"
}
