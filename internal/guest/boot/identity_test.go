package boot

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// localhost is the text that a file without localhost gets.
const localhost = "127.0.0.1\tlocalhost # wrenn\n::1\tlocalhost ip6-localhost ip6-loopback # wrenn\n"

func TestHosts(t *testing.T) {
	tests := []struct{ name, have, want string }{
		{"nothing there", "", localhost},
		{
			"the image's own lines stay", "127.0.0.1 localhost\n::1 ip6-localhost # six\n192.0.2.1 db",
			"127.0.0.1 localhost\n::1 ip6-localhost # six\n192.0.2.1 db\n",
		},
		{
			"our earlier lines go", localhost + "127.0.1.1\told # wrenn\n",
			localhost,
		},
		{"a comment is no entry", "# localhost\n", "# localhost\n" + localhost},
	}
	for _, tt := range tests {
		got := otherHosts(tt.have)
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
		if again := otherHosts(got + "127.0.1.1\tsb # wrenn\n"); again != got {
			t.Errorf("%s: not stable: %q", tt.name, again)
		}
	}
}

func TestIdentityWritesIntoTheRoot(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	id := NewIdentity(root)
	if err := id.writeHostname("sb-1"); err != nil {
		t.Fatal(err)
	}
	if err := id.SetNameservers([]string{"192.0.2.1", "192.0.2.2"}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"hostname": "sb-1\n", "resolv.conf": "nameserver 192.0.2.1\nnameserver 192.0.2.2\n",
		"hosts": localhost + "127.0.1.1\tsb-1 # wrenn\n",
	} {
		if b, err := os.ReadFile(filepath.Join(root, "etc", name)); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
}

func TestUUID(t *testing.T) {
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	for _, b := range [][16]byte{{}, {0xff, 6: 0xff, 8: 0xff}} {
		if got := uuid(b); !form.MatchString(got) {
			t.Errorf("%s is not a random UUID", got)
		}
	}
}
