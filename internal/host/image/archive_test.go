package image

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestHostArchive(t *testing.T) {
	mirrors := filepath.Join(t.TempDir(), "mirrors.list")
	if err := os.WriteFile(mirrors, []byte("http://cloud.example/debian/\tpriority:1\nhttp://second.example/\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		files map[string]string
		want  Archive
	}{
		"nothing": {},
		"one line": {
			map[string]string{"sources.list": "# deb http://no.example/debian bookworm main\n" +
				"deb [arch=amd64 signed-by=/k] http://m.example/debian/ bookworm main\ndeb http://s.example/sec bookworm-security main\n"},
			Archive{"http://m.example/debian", "http://s.example/sec"},
		},
		"deb822": {
			map[string]string{"sources.list.d/debian.sources": "Types: deb deb-src\nURIs: https://m.example/debian\nSuites: trixie trixie-updates\n" +
				"Components: main\n\nTypes: deb\nURIs: https://s.example/sec\nSuites: trixie-security\n"},
			Archive{"https://m.example/debian", "https://s.example/sec"},
		},
		"disabled": {
			map[string]string{"sources.list.d/x.sources": "Enabled: no\nTypes: deb\nURIs: http://m.example\nSuites: trixie\n"},
			Archive{},
		},
		"cloud image": {
			map[string]string{"sources.list.d/debian.sources": "Types: deb\nURIs: mirror+file://" + mirrors + "\nSuites: bookworm\n"},
			Archive{Mirror: "http://cloud.example/debian"},
		},
		"ubuntu and others": {
			map[string]string{
				"sources.list":             "deb http://u.example/ubuntu noble main\ndeb cdrom:[Debian] bookworm main\n",
				"sources.list.d/vend.list": "deb https://v.example/apt nodistro main\n",
			},
			Archive{},
		},
		"security alone is of no use": {
			map[string]string{"sources.list": "deb http://s.example/sec bookworm-security main\n"},
			Archive{},
		},
	} {
		dir := t.TempDir()
		for file, text := range test.files {
			path := filepath.Join(dir, file)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := hostArchive(dir); got != test.want {
			t.Errorf("%s: got %+v, want %+v", name, got, test.want)
		}
	}
}

func TestArchiveLinesAreSigned(t *testing.T) {
	lines := Archive{Mirror: "http://m.example/debian/"}.lines("bookworm")
	if len(lines) != 3 || !strings.Contains(lines[2], " http://m.example/debian-security bookworm-security main") {
		t.Errorf("got %q", lines)
	}
	for _, line := range lines {
		if !strings.Contains(line, "[signed-by="+debianKeyring+"]") {
			t.Errorf("%q names no key", line)
		}
	}
	if lines := (Archive{}).lines("bookworm"); lines != nil {
		t.Errorf("no mirror: got %q", lines)
	}
}

func TestAcquireOptionsKeepsWhatReachesAnArchive(t *testing.T) {
	got := acquireOptions("APT \"\";\nAcquire::http::Proxy \"http://p.example:3128\";\nAcquire::Check-Date \"false\";\n" +
		"Acquire::https \"\";\nAcquire::IndexTargets::deb::X \"y\";\nDPkg::Post-Invoke:: \"rm\";\n")
	want := "Acquire::http::Proxy \"http://p.example:3128\";\nAcquire::Check-Date \"false\";\nAcquire::Languages \"none\";\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
