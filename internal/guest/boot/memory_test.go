package boot

import (
	"bytes"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMemory(t *testing.T) {
	m, err := NewMemory()
	if err != nil {
		t.Fatal(err)
	}
	defer m.file.Close()
	for _, content := range []string{"", "a long record with a secret", "short", ""} {
		if err := m.Save([]byte(content)); err != nil {
			t.Fatal(err)
		}
		if got, err := m.Load(); err != nil || string(got) != content {
			t.Errorf("got %q, %v; want %q", got, err, content)
		}
	}
	if err := m.Save(make([]byte, maxMemory+1)); err == nil {
		t.Error("took more than it holds")
	}
}

// A later agent finds the bytes of an earlier one.
func TestMemoryIsInherited(t *testing.T) {
	m, err := NewMemory()
	if err != nil {
		t.Fatal(err)
	}
	defer m.file.Close()
	if err := m.Save([]byte("kept")); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Dup(int(m.file.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	next := OpenMemory(os.NewFile(uintptr(fd), "memory"))
	defer next.file.Close()
	if got, err := next.Load(); err != nil || !bytes.Equal(got, []byte("kept")) {
		t.Errorf("got %q, %v", got, err)
	}
}
