package gvisor_test

import (
	"testing"
)

// parents starts programs that watch their children and their own signals. They write
// each thing that they see to /run/seen.
const parents = `mkdir -m 777 /run/seen
cat >/run/parent.py <<'END'
import os, signal, subprocess, time
log = open("/run/seen/python", "a", buffering=1)
for s in (signal.SIGCONT, signal.SIGCHLD, signal.SIGTSTP, signal.SIGALRM, signal.SIGTERM):
    signal.signal(s, lambda number, frame: log.write("signal %d\n" % number))
child = subprocess.Popen(["sleep", "10000"])
stopped = subprocess.Popen(["sleep", "10000"])
os.kill(stopped.pid, signal.SIGSTOP)
os.waitpid(stopped.pid, os.WUNTRACED)
time.sleep(0.2)
log.truncate(0)
open("/run/seen/ready", "w").close()
while True:
    pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
    if pid: log.write("child %x\n" % status)
    time.sleep(0.005)
END
setsid python3 /run/parent.py >/dev/null 2>&1 &
setsid bash -c 'set -m; sleep 10000 & timeout 9999 sleep 9998 & while :; do jobs -s; read -t 0.05 <>/run/seen.fifo; done >>/run/seen/bash 2>&1' >/dev/null 2>&1 &
mkfifo /run/seen.fifo
while [ ! -e /run/seen/ready ]; do sleep 0.05; done`

// TestParentsSeeNothing: parents that wait for stopped and continued children, a shell
// with job control, timeout(1) and handlers of signals do not learn of a hold, and a
// process that its user had stopped stays stopped.
func TestParentsSeeNothing(t *testing.T) {
	d, image := newDriver(t)
	g := newGuest(t, image)
	vm, err := d.Start(t.Context(), g.cfg)
	check(t, err)
	t.Cleanup(func() { kill(t, vm) })
	check(t, g.Ready(t.Context()))
	_, err = g.Shell(t.Context(), parents)
	check(t, err)
	for range 5 {
		check(t, g.Freeze(t.Context()))
		check(t, g.Identify(t.Context()))
	}
	// The parents have looked again when time has passed for them.
	seen, err := g.Shell(t.Context(), "sleep 0.5; cat /run/seen/python /run/seen/bash")
	check(t, err)
	if seen != "" {
		t.Errorf("parents have seen %q, want nothing", seen)
	}
	states, err := g.Shell(t.Context(), `for p in /proc/[0-9]*; do read -r stat 2>/dev/null <$p/stat || continue; case $stat in *"(sleep)"*) rest=${stat##*) }; echo ${rest%% *};; esac; done | sort | uniq -c | tr -s " \n" " "`)
	check(t, err)
	if want := " 3 S 1 T "; states != want {
		t.Errorf("the sleeping processes have states %q, want %q", states, want)
	}
}
