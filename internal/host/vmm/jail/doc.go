// Package jail confines a VMM process before it runs a single instruction of
// its own.
//
// The driver of a VMM calls [Launcher.Command], which starts a small launcher,
// the program cmd/wrenn-jail, in new namespaces. [Main] is that launcher: it
// builds the process's root directory, takes its privileges away, installs a
// seccomp allow-list and executes the VMM in its own place, so that the VMM has
// the PID and the start time of the launcher.
//
//	agent ── once: a mount namespace with nothing of the host's in it
//	agent ── clone: new net, pid, ipc, uts namespaces ──► launcher (root)
//	launcher ── copy of that mount namespace, cgroup namespace, keyring, limits,
//	            capabilities, uid, Landlock, seccomp ── execve ──► VMM
//
// # Contents of the jail
//
//  1. Namespaces: network (empty, without even a configured loopback), mount,
//     PID, IPC, UTS and cgroup namespaces of its own.
//  2. Files: a read-only root directory that holds the files of Spec.Binds and
//     nothing else; no /proc, no /sys, no directory that it may write to.
//     Everything that belongs to one VM is an open descriptor instead.
//  3. Descriptors: 0 to 2 and those of Spec.Files, nothing that the agent has
//     open.
//  4. Identity: user and group id of the sandbox, the groups of Spec.Groups, no
//     capability in any set, no_new_privs, a session keyring of its own.
//  5. Limits: no core file, a largest file size, few descriptors, no locked
//     memory.
//  6. System calls: those of the allow-list, see filter.go. Landlock rules stand
//     behind the mounts where the kernel has them.
//
// TestEscapeFindsNothing plays a VMM that was taken over; it is the test of all
// of these at once. TestRunningVMIsJailed looks at a real one.
//
// # PID 1
//
// The VMM is PID 1 of its PID namespace, without an init above it: it may not
// fork, so that there is nobody to reap. The kernel keeps signals without a
// handler from PID 1, except SIGKILL and SIGSTOP from an outer namespace, which
// is why only SIGKILL ends a VMM. When it ends, so does its namespace.
//
// The package makes no file on the host. It never falls back to less: where a
// namespace or the filter cannot be had, the VMM does not start.
package jail
