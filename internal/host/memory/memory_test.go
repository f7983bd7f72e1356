package memory_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/host/memory"
)

// TestWriteDirty uses this process as the VM: a private mapping of a base file
// in which some pages are changed, some only read, some zeroed.
func TestWriteDirty(t *testing.T) {
	const pages = 3000
	base := filepath.Join(t.TempDir(), "base")
	content := make([]byte, pages*memory.PageSize)
	rng := rand.New(rand.NewPCG(1, 2))
	for p := 0; p < pages; p += 2 { // every second page is a hole
		for i := range memory.PageSize {
			content[p*memory.PageSize+i] = byte(rng.Uint32() | 1)
		}
	}
	if err := os.WriteFile(base, content, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(base)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	mem, err := unix.Mmap(int(f.Fd()), 0, len(content), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(mem) }()

	var dirty, zero int64
	for p := range pages {
		at := p * memory.PageSize
		switch rng.IntN(4) {
		case 0: // written
			mem[at+rng.IntN(memory.PageSize)] ^= 0x55
			dirty += memory.PageSize
			if bytes.Equal(mem[at:at+memory.PageSize], make([]byte, memory.PageSize)) {
				zero += memory.PageSize
			}
		case 1: // zeroed
			clear(mem[at : at+memory.PageSize])
			dirty += memory.PageSize
			zero += memory.PageSize
		case 2: // read
			_ = mem[at]
		}
	}

	path := filepath.Join(t.TempDir(), "copy")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	dst, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	stats, err := memory.WriteDirty(t.Context(), os.Getpid(), base, dst)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, mem) {
		t.Fatal("the file is not what the process sees")
	}
	if unchanged, _ := os.ReadFile(base); !bytes.Equal(unchanged, content) {
		t.Fatal("the base file was changed")
	}
	want := memory.Stats{Total: int64(len(content)), Dirty: dirty, Zero: zero}
	if stats != want {
		t.Fatalf("stats %+v, want %+v", stats, want)
	}
}

func TestWriteDirtyRefusesWrongFile(t *testing.T) {
	base := filepath.Join(t.TempDir(), "base")
	if err := memory.CreateBase(base, 1<<20); err != nil {
		t.Fatal(err)
	}
	dst, err := os.Create(filepath.Join(t.TempDir(), "dst"))
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	if _, err := memory.WriteDirty(t.Context(), os.Getpid(), base, dst); err == nil {
		t.Fatal("a file that the process does not map was accepted")
	}
}

func BenchmarkWriteDirty64MiB(b *testing.B) {
	base := filepath.Join(b.TempDir(), "base")
	if err := memory.CreateBase(base, 512<<20); err != nil {
		b.Fatal(err)
	}
	f, err := os.Open(base)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	mem, err := unix.Mmap(int(f.Fd()), 0, 512<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = unix.Munmap(mem) }()
	for at := 0; at < 64<<20; at += memory.PageSize {
		mem[at*8] = 1
	}
	b.SetBytes(64 << 20)
	for b.Loop() {
		path := filepath.Join(b.TempDir(), "dst")
		dst, err := os.Create(path)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := memory.WriteDirty(b.Context(), os.Getpid(), base, dst); err != nil {
			b.Fatal(err)
		}
		_ = dst.Close()
		_ = os.Remove(path)
	}
}
