package memory_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/host/memory"
)

// guest is a private mapping of a base file in this process, which stands for
// the VM: some pages are changed, some only read, some zeroed, some written
// with the content they had.
type guest struct {
	base    string
	content []byte // of the base
	mem     []byte
	dirty   int64 // bytes of pages that were written
	changed int64 // of these, bytes of pages that differ
}

func newGuest(t testing.TB, pages int, rng *rand.Rand) *guest {
	t.Helper()
	g := &guest{base: filepath.Join(t.TempDir(), "base"), content: make([]byte, pages*memory.PageSize)}
	for p := 0; p < pages; p += 2 { // every second page is a hole
		for i := range memory.PageSize {
			g.content[p*memory.PageSize+i] = byte(rng.Uint32() | 1)
		}
	}
	if err := os.WriteFile(g.base, g.content, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(g.base)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	g.mem, err = unix.Mmap(int(f.Fd()), 0, len(g.content), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(g.mem) })
	for p := range pages {
		page := g.mem[p*memory.PageSize : (p+1)*memory.PageSize]
		before := bytes.Clone(page)
		switch rng.IntN(5) {
		case 0:
			page[rng.IntN(memory.PageSize)] ^= 0x55
		case 1:
			clear(page)
		case 2:
			_ = page[0]
			continue
		case 3:
			page[7] = before[7] // written, and the same
		default:
			continue
		}
		g.dirty += memory.PageSize
		if !bytes.Equal(before, page) {
			g.changed += memory.PageSize
		}
	}
	return g
}

// diff writes the guest's difference to a new file.
func (g *guest) diff(t testing.TB) (path string, stats memory.Stats) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "diff")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if stats, err = memory.WriteDiff(t.Context(), os.Getpid(), g.base, f); err != nil {
		t.Fatal(err)
	}
	return path, stats
}

// restore makes a whole memory of the base and the difference at path.
func (g *guest) restore(t testing.TB, path string) ([]byte, error) {
	t.Helper()
	whole := filepath.Join(t.TempDir(), "whole")
	if err := os.WriteFile(whole, g.content, 0o600); err != nil {
		t.Fatal(err)
	}
	dst, err := os.OpenFile(whole, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	src, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	if err := memory.CheckDiff(src, int64(len(g.content))); err != nil {
		return nil, err
	}
	if err := memory.ApplyToFile(t.Context(), src, dst); err != nil {
		return nil, err
	}
	got, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	return got, nil
}

func TestDiff(t *testing.T) {
	for seed := range uint64(20) {
		g := newGuest(t, 700, rand.New(rand.NewPCG(seed, 3)))
		path, stats := g.diff(t)
		if stats.Total != int64(len(g.mem)) || stats.Dirty != g.dirty || stats.Kept != g.changed {
			t.Fatalf("seed %d: stats %+v, want %d dirty and %d kept", seed, stats, g.dirty, g.changed)
		}
		got, err := g.restore(t, path)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if !bytes.Equal(got, g.mem) {
			t.Fatalf("seed %d: base and difference are not what the process sees", seed)
		}
	}
}

// TestDamagedDiff changes, cuts and extends a difference: it is refused, or the
// change did not matter.
func TestDamagedDiff(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	g := newGuest(t, 60, rng)
	path, _ := g.diff(t)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	try := func(what string, data []byte) {
		damaged := filepath.Join(t.TempDir(), "damaged")
		if err := os.WriteFile(damaged, data, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := g.restore(t, damaged)
		switch {
		case errors.Is(err, memory.ErrDamaged):
			refused++
		case err != nil:
			t.Fatalf("%s: %v, want ErrDamaged", what, err)
		case !bytes.Equal(got, g.mem):
			t.Fatalf("%s: another memory came out, and no error", what)
		}
	}
	for range 400 {
		data := bytes.Clone(whole)
		data[rng.IntN(len(data))] ^= byte(1 + rng.IntN(255))
		try("a byte changed", data)
	}
	for range 50 {
		try("cut off", whole[:rng.IntN(len(whole))])
	}
	try("empty", nil)
	try("longer", append(bytes.Clone(whole), 1, 2, 3))
	if refused < 300 {
		t.Fatalf("only %d damaged files were refused", refused)
	}
}

func FuzzDiff(f *testing.F) {
	g := newGuest(f, 20, rand.New(rand.NewPCG(7, 8)))
	path, _ := g.diff(f)
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "diff")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		_, _ = g.restore(t, path) // must neither panic nor write elsewhere
	})
}

func TestApplyNeedsTheMapping(t *testing.T) {
	g := newGuest(t, 20, rand.New(rand.NewPCG(9, 9)))
	path, _ := g.diff(t)
	src, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	other := filepath.Join(t.TempDir(), "other")
	if err := memory.CreateBase(other, int64(len(g.mem))); err != nil {
		t.Fatal(err)
	}
	if err := memory.Apply(t.Context(), src, os.Getpid(), other); err == nil {
		t.Fatal("a difference was written into a process that does not map the base")
	}
	if err := memory.Apply(t.Context(), src, os.Getpid(), g.base); err != nil {
		t.Fatal(err) // it is there already: nothing changes
	}
}

// BenchmarkWriteDiff writes differences of growing size from one of 1 GiB: the
// time per byte kept should stay the same.
func BenchmarkWriteDiff(b *testing.B) {
	for _, mib := range []int{8, 64, 256} {
		b.Run(sizeName(mib), func(b *testing.B) {
			base := filepath.Join(b.TempDir(), "base")
			if err := memory.CreateBase(base, 1<<30); err != nil {
				b.Fatal(err)
			}
			f, err := os.Open(base)
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			mem, err := unix.Mmap(int(f.Fd()), 0, 1<<30, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = unix.Munmap(mem) }()
			for at := 0; at < mib<<20; at += memory.PageSize {
				mem[at*2] = 1 // runs of one page
			}
			b.SetBytes(int64(mib) << 20)
			for b.Loop() {
				dst, err := os.Create(filepath.Join(b.TempDir(), "dst"))
				if err != nil {
					b.Fatal(err)
				}
				if _, err := memory.WriteDiff(b.Context(), os.Getpid(), base, dst); err != nil {
					b.Fatal(err)
				}
				_ = dst.Close()
			}
		})
	}
}

func sizeName(mib int) string { return map[int]string{8: "8MiB", 64: "64MiB", 256: "256MiB"}[mib] }
