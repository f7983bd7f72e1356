package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const installed = "/usr/local/bin/wrenn"

// units returns the files of deploy/systemd with a suffix.
func units(t testing.TB, suffix string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(root, "deploy", "systemd", "*"+suffix))
	if err != nil || len(found) == 0 {
		t.Fatalf("deploy/systemd has no *%s (%v)", suffix, err)
	}
	return found
}

// TestUnitCommands checks the flags of every command in the units and every
// variable in the environment files.
func TestUnitCommands(t *testing.T) {
	for _, file := range units(t, ".service") {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(raw), "\\\n", " ")
		found := regexp.MustCompile(`(?m)^Exec[A-Za-z]+=(\S*wrenn .*)$`).FindAllStringSubmatch(text, -1)
		if len(found) == 0 {
			t.Errorf("%s runs no wrenn", file)
		}
		for _, m := range found {
			checkCalls(t, file, m[1])
		}
	}
	for _, file := range units(t, ".env") {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range variable.FindAllString(string(raw), -1) {
			flag := "--" + strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, "WRENN_")), "_", "-")
			if !strings.Contains(help(t, "up")+help(t, "server")+help(t, "agent"), " "+flag+" ") {
				t.Errorf("%s: %s is no flag's variable", file, name)
			}
		}
	}
}

// TestUnitsVerify has systemd check the units. The program need not be
// installed: the test names the built one in copies of the units.
func TestUnitsVerify(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	bin, dir := binary(t), t.TempDir()
	args := []string{"verify", "--man=no"}
	for _, file := range units(t, ".service") {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		unit := filepath.Join(dir, filepath.Base(file))
		if err := os.WriteFile(unit, []byte(strings.ReplaceAll(string(raw), installed, bin)), 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, unit)
	}
	out, err := exec.Command("systemd-analyze", args...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}
