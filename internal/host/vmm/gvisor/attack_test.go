package gvisor_test

import (
	"context"
	"os/exec"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

// attack is a command that takes memory of the host until it is ended.
type attack struct {
	name, script string
	// cleanUp is a script that removes the files of the command, if it has made any: the
	// memory that one attack leaves can end the next at its start.
	cleanUp string
	// rounds is the number of attacks in a row: the remains of one are the beginning
	// of the next.
	rounds int
}

// attacks take memory in different ways.
var attacks = []attack{
	{"malloc", `
held = []
while True: held.append(b"x" * (1 << 20))`, "", 2},
	{"tmpfs", `
import os
os.makedirs("/mnt/m", exist_ok=True)
os.system("mount -t tmpfs -o size=64G none /mnt/m")
block = os.urandom(1 << 20)
with open("/mnt/m/large", "wb", 0) as f:
    while True: f.write(block)`, "! mountpoint -q /mnt/m || umount /mnt/m", 2},
	{"pipes", `
import fcntl, os
held = []
while True:
    held.append(os.pipe())
    fcntl.fcntl(held[-1][1], 1031, 1 << 20)  # F_SETPIPE_SZ
    os.write(held[-1][1], bytes(1 << 20))`, "", 2},
	{"sockets", `
import socket
held, block = [], bytes(1 << 16)
while True:
    pair = socket.socketpair()
    held.append(pair)
    pair[0].setblocking(False)
    pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    try:
        while True: pair[0].send(block)
    except BlockingIOError: pass`, "", 2},
	{"attributes", `
import os
os.makedirs("/root/d", exist_ok=True)
for n in range(1 << 30):
    os.mkdir("/root/d/%d" % n)
    for a in range(8): os.setxattr("/root/d/%d" % n, "user.%d" % a, bytes(60000))`, "rm -rf /root/d", 2},
	{"mounts", `
import ctypes, os, time
libc = ctypes.CDLL(None)
for n in range(3000): libc.mount(b"none", b"/mnt", b"tmpfs", 0, b"")
while libc.unshare(0x20000) == 0:  # CLONE_NEWNS, with a copy of all mounts
    if os.fork() == 0: time.sleep(1000)  # holds the copy`, "", 1},
}

// TestAttacksOnABusyHost: on a host with as many busy programs as processors, a sandbox
// with a small disk survives all attacks on its memory, one right after the other.
// Each is ended for lack of memory, and another command goes on.
func TestAttacksOnABusyHost(t *testing.T) {
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			g, vm := startSmall(t)
			keepBusy(t, 2)
			before, err := g.Count(t.Context())
			check(t, err)
			for round := range a.rounds {
				if end := g.End(t, "exec python3 -c '"+a.script+"'"); !end.GetOom() || end.GetStatus() != "signal: killed" {
					t.Errorf("attack %d ended with %v, want killed for lack of memory", round+1, end)
				}
				alive(t, vm)
				if a.cleanUp != "" {
					if out, err := g.Shell(t.Context(), a.cleanUp+" 2>&1"); err != nil {
						t.Errorf("%s: %.500q, %v", a.cleanUp, out, err)
					}
				}
			}
			for after := before; after == before; {
				after, err = g.Count(t.Context())
				check(t, err)
			}
		})
	}
}

// forkBombs start processes until they cannot, or are ended.
var forkBombs = []attack{
	{"python", `exec python3 -c '
import os
while True:
    try: os.fork()
    except OSError: pass'`, "", 2},
	{"python that stops at its limit", `exec python3 -c '
import os
while True: os.fork()' 2>/dev/null`, "", 2},
	{"python with memory", `exec python3 -c '
import os
held = []
while True:
    try: os.fork()
    except OSError: pass
    held.append(b"x" * (1 << 20))'`, "", 2},
	{"shell", `bomb() { bomb | bomb & }; bomb; sleep 10`, "", 1},
}

// TestForkBombsOnABusyHost: a sandbox with a small disk survives fork bombs, one right
// after the other, and runs a command after each. The bomb of the shell may go on, and
// leaves processes to another command.
func TestForkBombsOnABusyHost(t *testing.T) {
	for _, a := range forkBombs {
		t.Run(a.name, func(t *testing.T) {
			g, vm := startSmall(t)
			keepBusy(t, 2)
			for range a.rounds {
				if end := g.End(t, a.script); end.GetStatus() == "exit status 0" && a.name != "shell" {
					t.Errorf("a fork bomb ended with %v, want an error", end)
				}
				alive(t, vm)
				if out, err := g.Shell(t.Context(), "echo alive"); err != nil || out != "alive\n" {
					t.Fatalf("a command afterwards: %q, %v; the VM: %+v", out, err, vm.Exit())
				}
			}
		})
	}
}

// startSmall starts a sandbox with little memory and a small disk. No call waits for one
// that is gone.
func startSmall(t *testing.T) (*guest, vmm.VM) {
	t.Helper()
	_, g, vm := startSized(t, 1, 256, 512)
	go func() {
		<-vm.Exited()
		g.Close()
	}()
	return g, vm
}

// keepBusy runs n programs that use a processor each, until the test ends.
func keepBusy(t *testing.T, n int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(cancel)
	for range n {
		busy := exec.CommandContext(ctx, "sh", "-c", "while :; do :; done")
		check(t, busy.Start())
		t.Cleanup(func() { cancel(); _ = busy.Wait() })
	}
}
