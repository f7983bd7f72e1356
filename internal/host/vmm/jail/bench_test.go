package jail_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/host/vmm/jail"
)

// BenchmarkLaunch measures the time that the jail adds to the start of a process: the
// same small program, run to its end, in the jail and without one.
func BenchmarkLaunch(b *testing.B) {
	needRoot(b)
	self, err := os.Executable()
	check(b, err)
	l := launcher(b)
	spec := jail.Spec{
		Path: jail.ProgramDir + "/" + filepath.Base(self), Argv: []string{"nothing"}, UID: jailUID, GID: jailUID,
		Binds: []jail.Bind{
			{From: filepath.Dir(self), To: jail.ProgramDir, Exec: true},
			{From: self, To: jail.Memory},
			{From: jail.Null, To: jail.Null, Write: true, Device: true},
		},
	}
	var plain, jailed []time.Duration
	for b.Loop() {
		plain = append(plain, run(b, &exec.Cmd{Path: self, Args: []string{"nothing"}}))
		cmd, err := l.Command(spec)
		check(b, err)
		jailed = append(jailed, run(b, cmd))
	}
	for what, times := range map[string][]time.Duration{"plain": plain, "jailed": jailed} {
		slices.Sort(times)
		b.ReportMetric(float64(times[0].Microseconds())/1000, "min-ms/"+what)
		b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "median-ms/"+what)
	}
}

func run(b *testing.B, cmd *exec.Cmd) time.Duration {
	begun := time.Now()
	check(b, cmd.Run())
	return time.Since(begun)
}
