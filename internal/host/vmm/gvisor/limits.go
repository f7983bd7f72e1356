package gvisor

import "os/exec"

// sentryLimits are the limits of resources that the processes of a sandbox inherit,
// hard ones, as commands of a shell. A core file would hold the guest's memory. A
// sentry has one open file for each address space of its guest and few others.
const sentryLimits = "ulimit -c 0; ulimit -n 8192 2>/dev/null; "

// limit makes cmd start its program with the limits of a sentry. They are those of a
// process, and this one has others.
func limit(cmd *exec.Cmd) {
	program := cmd.Path
	cmd.Path = "/bin/sh"
	cmd.Args = append([]string{"sh", "-c", sentryLimits + `exec "$@"`, "sh", program}, cmd.Args[1:]...)
}
