// Package process runs commands inside the guest and carries their input,
// output and end.
//
// It owns every command started through the guest's process service: a Table
// holds them, a Process is one of them, a Subscription is one reader of its
// output. The packages agent and envd are the callers; agent has already chosen user,
// directory and environment. The package never looks up users, never speaks a
// wire protocol and never waits for a process that it did not start.
//
// The life of a process:
//
//	Start ──► running ──► exited ──► ended ──► forgotten
//	             │  main process   output        30 s later
//	             │  was reaped     delivered
//	             └─ timeout or kill: the whole cgroup gets SIGKILL
//
// A command ends with its main process. Children that it leaves behind may keep the
// output pipes open. Output that is in the pipes by then is still delivered; later
// output is read and discarded, so that a daemon does not die of SIGPIPE.
package process
