package boot

import (
	"os"
	"path/filepath"
	"testing"
)

func TestSizeOf(t *testing.T) {
	const text = "MemTotal:         262144 kB\nCached:           102424 kB\nSwapCached:            7 kB\nShmem: 3 kB\n"
	for name, want := range map[string]uint64{"Cached": 102424 << 10, "SwapCached": 7 << 10, "Shmem": 3 << 10, "AnonPages": 0} {
		if got := sizeOf([]byte(text), name); got != want {
			t.Errorf("%s has %d bytes, want %d", name, got, want)
		}
	}
}

func TestKernelFileIsReadAnew(t *testing.T) {
	f := kernelFile{path: filepath.Join(t.TempDir(), "number")}
	if _, err := f.read(); err == nil {
		t.Error("a missing file was read")
	}
	for _, want := range []string{"12\n", "7\n"} {
		if err := os.WriteFile(f.path, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := f.read(); err != nil || string(got) != want {
			t.Errorf("read %q, %v; want %q", got, err, want)
		}
	}
}
