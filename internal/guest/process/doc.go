// Package process runs commands inside the guest and carries their input,
// output and end.
//
// It owns every command started through the guest's services: a Table holds them, a
// Process is one of them, a journal has its newest output, a Subscription is one
// reader of that. The packages agent and envd are the callers; agent has already
// chosen user, directory and environment. The package never looks up users, never
// speaks a wire protocol and never waits for a process that it did not start.
//
// The life of a process:
//
//	Start ──► running ──► exited ──► ended ──► forgotten
//	             │  main process   output in   Retention, or RecordRetention
//	             │  was reaped     the journal with an ID, later
//	             └─ timeout or kill: the whole cgroup gets SIGKILL
//
// A command ends with its main process. Children that it leaves behind may keep the
// output pipes open. Output that is in the pipes by then is still delivered; later
// output is read and discarded, so that a daemon does not die of SIGPIPE.
//
// # Output
//
// The streams of a command share one journal and one count of bytes, so that an offset
// names a place in the output of both, in the order of arrival. There are two kinds:
//
//   - A command without an ID has a brief journal: output waits for every attached
//     reader, and is not kept where none is attached. Calls that stay connected to
//     their command, such as exec, use it.
//   - A command with an ID keeps its newest output, after its end too. Once the journal
//     is full, the command waits for an attached reader that keeps reading, and else
//     loses its oldest output; with Spec.Block it waits until readers acknowledge what
//     they have received. Lost bytes are counted, and readers are told which they are.
//
// Of a command without an ID the table also keeps a record, a Brief, for longer than
// Retention: the newest MaxBriefs, until the sandbox gets a new identity.
//
// The memory of all journals together is limited by a part of the guest's memory. The
// output of ended commands makes way first.
package process
