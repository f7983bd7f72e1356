package main

import (
	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/errors/linuxerr"
	"gvisor.dev/gvisor/pkg/hostarch"
	"gvisor.dev/gvisor/pkg/sentry/arch"
	"gvisor.dev/gvisor/pkg/sentry/kernel"
)

// restarted are the system calls that this program begins again when a wait in them has
// been interrupted and no handler of a signal is called, with the error that asks for
// it. In gVisor they fail with EINTR, and in Linux they do not.
//
// A sentry interrupts every wait in order to stop the threads of its guest, for a
// pause, a snapshot or a debugger. A program that has no handlers does not expect EINTR.
//
// An interrupted call is not begun again if the first attempt may have changed something.
var restarted = map[string]error{
	// An open waits for the other end of a FIFO (wait_for_partner of fs/pipe.c in
	// Linux), and for the server of a file system in user space.
	"open":    linuxerr.ERESTARTSYS,
	"openat":  linuxerr.ERESTARTSYS,
	"openat2": linuxerr.ERESTARTSYS,
	"creat":   linuxerr.ERESTARTSYS,

	// ipc/msg.c in Linux. These wait before they take or leave a message.
	"msgrcv": linuxerr.ERESTARTNOHAND,
	"msgsnd": linuxerr.ERESTARTNOHAND,
}

func init() {
	for _, table := range kernel.SyscallTables() {
		for number, call := range table.Table {
			if again := restarted[call.Name]; again != nil {
				call.Fn = restarting(call.Name, call.Fn, again)
				table.Table[number] = call
			}
		}
		table.Init() // for the lookup by number
	}
}

// restarting returns the system call fn with the error again in place of the EINTR of an
// interruption.
func restarting(name string, fn kernel.SyscallFn, again error) kernel.SyscallFn {
	return func(t *kernel.Task, number uintptr, args arch.SyscallArguments) (uintptr, *kernel.SyscallControl, error) {
		result, control, err := fn(t, number, args)
		if err != nil && interrupts(err) && t.Interrupted() && !exclusive(t, name, args) {
			err = again
		}
		return result, control, err
	}
}

func interrupts(err error) bool {
	return err == linuxerr.ErrInterrupted || linuxerr.Equals(linuxerr.EINTR, err)
}

// exclusive reports whether a call makes a file that must not exist yet, and would find
// its own at the second attempt. Such an open never waits for a FIFO.
func exclusive(t *kernel.Task, name string, args arch.SyscallArguments) bool {
	flags := uint64(0)
	switch name {
	case "open":
		flags = args[1].Uint64()
	case "openat":
		flags = args[2].Uint64()
	case "openat2":
		var how [8]byte // the first field of struct open_how
		if _, err := t.CopyInBytes(args[2].Pointer(), how[:]); err != nil {
			return true
		}
		flags = hostarch.ByteOrder.Uint64(how[:])
	}
	return flags&linux.O_EXCL != 0
}
