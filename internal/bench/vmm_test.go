package bench

import (
	"os"
	"os/exec"
	"testing"
)

func TestProcessesAreFoundByTheirCommandLine(t *testing.T) {
	const id = "benchtestprocess"
	cmd := exec.Command("cat", "-", "/nowhere/"+id)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	defer in.Close()
	found, err := vmmProcesses([]string{id, "nosuchprocesshere"})
	if err != nil || len(found) != 1 || len(found[id]) != 1 {
		t.Fatalf("%v, %v", found, err)
	}
	if mib, err := memoryOf(found[id]); err != nil || mib <= 0 {
		t.Errorf("%v MiB, %v", mib, err)
	}
	if used, err := cpuTime(found[id]); err != nil || used < 0 {
		t.Errorf("%v, %v", used, err)
	}
	if _, err := vmmMemory("nosuchprocesshere"); err == nil {
		t.Error("a process that does not exist has memory")
	}
}

func TestStatTicks(t *testing.T) {
	const rest = " S 1 2 3 4 5 6 7 8 9 10 250 31 0 0 20 0"
	for stat, want := range map[string]int64{
		"12 (qemu)" + rest: 281, "12 (a) S (b c)" + rest: 281, "": -1, "12 (qemu) S 1 2": -1,
		"12 (x) S 1 2 3 4 5 6 7 8 9 10 a b": -1,
	} {
		if got, err := statTicks(stat); (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("%q: %d, %v; want %d", stat, got, err, want)
		}
	}
	own, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := statTicks(string(own)); err != nil {
		t.Error(err)
	}
}
