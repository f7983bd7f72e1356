package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/client"
)

// The most memory that a process may have used, in MiB: far less than a file.
const (
	maxServerMB = 200
	maxGuestMB  = 100
)

// TestLargeFile moves a file in and out of a sandbox that has less memory
// than the file has bytes, and watches that no process on its way takes it
// into memory. The file has the 2 GiB that the product promises only with
// WRENN_E2E_LARGE=1: under emulation that takes minutes.
func TestLargeFile(t *testing.T) {
	t.Parallel()
	s := startUp(t)
	size := int64(320 << 20)
	if os.Getenv("WRENN_E2E_LARGE") != "" {
		size = 2 << 30
	}
	sb := create(t, s.Client, client.CreateRequest{MemoryMB: 256, DiskMB: 4096, TimeoutSec: new(int)})
	forgetPeak(t, s.cmd.Process.Pid)
	sh(t, s.Client, sb.ID, "echo 5 >/proc/1/clear_refs")

	begin := time.Now()
	content := io.LimitReader(rand.NewChaCha8([32]byte{2}), size)
	sent := sha256.New()
	check(t, s.WriteFile(t.Context(), sb.ID, client.Upload{Path: "/root/large", Size: size}, io.TeeReader(content, sent)))
	t.Logf("upload: %.1f MiB/s", rate(size, begin))

	begin = time.Now()
	f, err := s.ReadFile(t.Context(), sb.ID, "/root/large", "")
	check(t, err)
	defer f.Body.Close()
	received := sha256.New()
	n, err := io.Copy(received, f.Body)
	check(t, err)
	t.Logf("download: %.1f MiB/s", rate(size, begin))
	want := hex.EncodeToString(sent.Sum(nil))
	if got := hex.EncodeToString(received.Sum(nil)); got != want || n != size {
		t.Errorf("%d bytes came back with the digest %s, want %d with %s", n, got, size, want)
	}
	res, err := s.Exec(t.Context(), sb.ID, client.ExecRequest{Cmd: "sha256sum", Args: []string{"/root/large"}, Timeout: 10 * time.Minute})
	check(t, err)
	if inside, _, _ := strings.Cut(string(res.Stdout), " "); inside != want {
		t.Errorf("inside, its digest is %s, want %s", inside, want)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	check(t, err)
	if peak := peakMB(t, string(status)); peak > maxServerMB {
		t.Errorf("the server used %d MiB for a file of %d MiB", peak, size>>20)
	}
	if peak := peakMB(t, sh(t, s.Client, sb.ID, "cat /proc/1/status")); peak > maxGuestMB {
		t.Errorf("the guest agent used %d MiB for a file of %d MiB", peak, size>>20)
	}
}

func rate(size int64, begin time.Time) float64 {
	return float64(size>>20) / time.Since(begin).Seconds()
}

// forgetPeak resets the peak of a process's memory (proc(5), clear_refs).
func forgetPeak(t *testing.T, pid int) {
	t.Helper()
	check(t, os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0))
}

// peakMB reads the peak of resident memory from a process's status, in MiB.
func peakMB(t *testing.T, status string) int {
	t.Helper()
	for line := range strings.Lines(status) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.Atoi(strings.Fields(value)[0])
			check(t, err)
			t.Logf("peak: %d MiB", kb>>10)
			return kb >> 10
		}
	}
	t.Fatal("a process's status has no VmHWM")
	return 0
}
