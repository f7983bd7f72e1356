package proc

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
)

func TestBootIDStaysTheSame(t *testing.T) {
	a, err := BootID()
	if err != nil {
		t.Fatal(err)
	}
	if b, err := BootID(); err != nil || a != b {
		t.Errorf("second BootID: got %q, %v; want %q", b, err, a)
	}
}

func TestParseStat(t *testing.T) {
	const head, tail = "12 (", ") Z 1 12 12 0 -1 4194560 80 0 0 0 14 15 16 17 20 0 1 0 2022 1000 2 18446744073709551615"
	for _, name := range []string{"sh", "a b", ") S 1 (", "\n", "()"} {
		got, err := parseStat(head + name + tail)
		want := Stat{State: 'Z', Parent: 1, UserTicks: 14, SystemTicks: 15, StartTicks: 2022}
		if err != nil || got != want {
			t.Errorf("stat of a program called %q: got %+v, %v; want %+v", name, got, err, want)
		}
	}
	for _, text := range []string{"", "12 sh S 1", "12 (sh) S 1 2", "12 (sh) S 1 2 3 4 5 6 7 8 9 10 11 x 13 14 15 16 17 18 19 20"} {
		if got, err := parseStat(text); err == nil {
			t.Errorf("stat %q: got %+v, want an error", text, got)
		}
	}
}

func TestReadStatOfAProcess(t *testing.T) {
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	own, err := ReadStat(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	child, err := ReadStat(cmd.Process.Pid)
	if err != nil || child.StartTicks < own.StartTicks {
		t.Errorf("stat of a child: got %+v, %v; want one that started after %d", child, err, own.StartTicks)
	}
	_ = in.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if s, err := ReadStat(cmd.Process.Pid); !errors.Is(err, os.ErrNotExist) && s.StartTicks == child.StartTicks {
		t.Errorf("stat of a reaped child: got %+v, %v; want no such file", s, err)
	}
}

func TestMemInfo(t *testing.T) {
	got := parseMemInfo("MemTotal:       4096 kB\nHugePages_Total:       7\nMemAvailable:   2048 kB\nbroken\nFree: x kB\n")
	if len(got) != 2 || got["MemTotal"] != 4<<20 || got["MemAvailable"] != 2<<20 {
		t.Errorf("meminfo: got %v, want 4 MiB in total and 2 MiB available", got)
	}
	real, err := ReadMemInfo()
	if err != nil {
		t.Fatal(err)
	}
	if real["MemAvailable"] == 0 || real["MemAvailable"] > real["MemTotal"] {
		t.Errorf("memory of this machine: %d bytes available of %d", real["MemAvailable"], real["MemTotal"])
	}
}

func TestReadStatus(t *testing.T) {
	ids, err := ReadStatus(os.Getpid(), "Uid")
	if want := fmt.Sprint(os.Getuid()); err != nil || len(ids) != 4 || ids[0] != want {
		t.Errorf("user ids %v, %v; want four, the first %s", ids, err, want)
	}
	if ids, err := ReadStatus(os.Getpid(), "Ui"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a line that does not exist: got %v, %v; want os.ErrNotExist", ids, err)
	}
}
