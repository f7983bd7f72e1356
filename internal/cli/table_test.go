package cli

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/wrenn-dev/wrenn/client"
)

// printedAt returns the output of print at a terminal of so many columns.
func printedAt(t *testing.T, width int, print func(*App) error) []string {
	t.Helper()
	var out strings.Builder
	a := New(IO{Out: &out, LookupEnv: func(string) (string, bool) { return "", false }, Width: func() int { return width }})
	if err := print(a); err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
}

// TestTablesFit80Columns prints long values of each kind.
func TestTablesFit80Columns(t *testing.T) {
	now := time.Now()
	text := func(s string) *string { return &s }
	const id = "abcdefghijklmnopqrst"
	sandboxes := []client.Sandbox{
		{ID: id, Name: text("a-rather-long-name-of-a-sandbox"), Status: "running", Template: "python-with-numpy", Runtime: "microvm", VCPUs: 32, MemoryMB: 131072, CreatedAt: now.Add(-99 * time.Hour)},
		{ID: id, Name: text("n"), Status: "stopped", Template: "minimal", VCPUs: 1, MemoryMB: 512, CreatedAt: now, EndedAt: &now, StopReason: text("lifetime_timeout")},
	}
	for name, print := range map[string]func(*App) error{
		"ls": func(a *App) error { return a.printList(sandboxes, now) },
		"snapshot ls": func(a *App) error {
			return a.printSnapshots([]client.Snapshot{{
				ID: id, SandboxID: id, Name: "before the great migration", Status: "creating", VCPUs: 2, MemoryMB: 2048, Bytes: 900 << 20,
				Users: 12, CreatedAt: now, TemplateName: text("python-with-numpy"),
			}}, false, now)
		},
		"hosts": func(a *App) error {
			room := int64(999 << 10)
			return a.printHosts([]client.Host{{
				ID: "rack-one-host-number-seventeen", Isolation: "userspace_kernel", VCPUs: 128, MemoryMB: 1 << 20, DiskRoomMB: &room,
				Runtimes: []client.HostRuntime{{Runtime: "gvisor", Isolation: "userspace_kernel"}, {Runtime: "microvm", Isolation: "process"}},
				Limits:   client.HostLimits{MaxVCPUs: 32, MaxMemoryMB: 131072}, Templates: []string{"minimal", "python", "node"},
			}})
		},
	} {
		for i, line := range printedAt(t, 80, print) {
			if i > 0 && strings.HasPrefix(name, "snapshot") && strings.Count(line, id) != 2 {
				t.Errorf("%s cuts an id: %s", name, line)
			}
			if n := utf8.RuneCountInString(line); n > 80 {
				t.Errorf("%s has a line of %d characters: %s", name, n, line)
			}
		}
		whole := strings.Join(printedAt(t, 0, print), "\n")
		if strings.Contains(whole, "…") {
			t.Errorf("%s is cut although there is no terminal:\n%s", name, whole)
		}
	}
	if lines := printedAt(t, 80, func(a *App) error { return a.printList(sandboxes, now) }); !strings.HasPrefix(lines[1], id+"  a-rat") {
		t.Errorf("the id is cut, or the name gone: %s", lines[1])
	}
}
