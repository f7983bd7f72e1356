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

// TestWholeInOnePass calls Finish without Begin. This process plays the VM: it has a
// private mapping of a base file in which some pages are changed, some only read
// and some zeroed.
func TestWholeInOnePass(t *testing.T) {
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
	stats, err := memory.NewWhole(os.Getpid(), base, dst).Finish(t.Context())
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

func TestWholeRefusesWrongFile(t *testing.T) {
	base := filepath.Join(t.TempDir(), "base")
	if err := memory.CreateBase(base, 1<<20); err != nil {
		t.Fatal(err)
	}
	dst, err := os.Create(filepath.Join(t.TempDir(), "dst"))
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	if _, err := memory.NewWhole(os.Getpid(), base, dst).Finish(t.Context()); err == nil {
		t.Fatal("a file that the process does not map was accepted")
	}
}

func BenchmarkWholeInOnePass64MiB(b *testing.B) {
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
		if _, err := memory.NewWhole(os.Getpid(), base, dst).Finish(b.Context()); err != nil {
			b.Fatal(err)
		}
		_ = dst.Close()
		_ = os.Remove(path)
	}
}

// process is this process as the VM: a private mapping of a base file in which
// every second page is a hole.
type process struct {
	base string
	mem  []byte
	dst  *os.File // a copy of base
}

func newProcess(t testing.TB, pages int) *process {
	t.Helper()
	p := &process{base: filepath.Join(t.TempDir(), "base")}
	content := make([]byte, pages*memory.PageSize)
	for i := range content {
		if i/memory.PageSize%2 == 0 {
			content[i] = byte(i%251 + 1)
		}
	}
	copied := filepath.Join(t.TempDir(), "copy")
	for _, name := range []string{p.base, copied} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(p.base)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if p.mem, err = unix.Mmap(int(f.Fd()), 0, len(content), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(p.mem) })
	if p.dst, err = os.OpenFile(copied, os.O_RDWR, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.dst.Close() })
	return p
}

func (p *process) page(n int) []byte { return p.mem[n*memory.PageSize : (n+1)*memory.PageSize] }

// TestWholeInTwoPasses changes pages between the passes in every way; the copy
// must be equal to the memory at the second.
func TestWholeInTwoPasses(t *testing.T) {
	const pages = 2000
	p := newProcess(t, pages)
	w := memory.NewWhole(os.Getpid(), p.base, p.dst)
	rng := rand.New(rand.NewPCG(3, 4))
	change := func() {
		for range pages / 3 {
			switch page := p.page(rng.IntN(pages)); rng.IntN(4) {
			case 0:
				clear(page)
			case 1: // the base's page again, as after a balloon
				if err := unix.Madvise(page, unix.MADV_DONTNEED); err != nil {
					t.Fatal(err)
				}
			default:
				page[rng.IntN(len(page))] = byte(rng.Uint32())
			}
		}
	}
	change()
	if err := w.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	change()
	stats, err := w.Finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(p.mem))
	if _, err := p.dst.ReadAt(got, 0); err != nil {
		t.Fatal(err)
	}
	for n := range pages {
		if at := n * memory.PageSize; !bytes.Equal(got[at:at+memory.PageSize], p.page(n)) {
			t.Fatalf("page %d of the copy is not what the process sees", n)
		}
	}
	if stats.Total != int64(len(p.mem)) || stats.Dirty == 0 || stats.Zero == 0 {
		t.Fatalf("the second pass says %+v", stats)
	}
}

// BenchmarkWholeFinish64MiB measures how long a VM is paused when 64 MiB were
// written before its fork, in contrast to BenchmarkWholeInOnePass64MiB.
func BenchmarkWholeFinish64MiB(b *testing.B) {
	p := newProcess(b, 32<<10)
	for n := range 16 << 10 {
		p.page(n * 2)[0] = 1
	}
	w := memory.NewWhole(os.Getpid(), p.base, p.dst)
	if err := w.Begin(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(64 << 20)
	for b.Loop() {
		if _, err := w.Finish(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
