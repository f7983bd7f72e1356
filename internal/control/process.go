package control

import (
	"context"
	"strings"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// ProcessID names a process of a sandbox. A fork has the processes of its parent under
// the same ids.
type ProcessID string

// maxProcessID is the longest id of a process, in characters.
const maxProcessID = 48

// NewProcessID returns a fresh ProcessID with 100 random bits.
func NewProcessID() ProcessID { return ProcessID(sandbox.NewID()) }

// ParseProcessID checks that s has the form of a ProcessID. Other text cannot name a
// process, so the error is NotFound process_not_found.
func ParseProcessID(s string) (ProcessID, error) {
	if s == "" || len(s) > maxProcessID || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return "", fault.New(fault.NotFound, "process_not_found", "there is no process with the id %.*q", maxProcessID+1, s)
	}
	return ProcessID(s), nil
}

// Process is a command that the guest keeps, as it was when the guest answered. Offsets
// count bytes of output of all streams. The guest wrote all of it.
type Process struct {
	// ID is empty for a command without an id, as in the answer to ProcessList.Commands.
	ID            ProcessID
	Cmd           string
	Args          []string
	ArgsTruncated bool
	Cwd, User     string
	// Stdin says that it has a pipe for its input, Terminal that it has a terminal.
	Stdin, Terminal bool
	// Block and JournalBytes are those of its start.
	Block        bool
	JournalBytes int
	StartedAt    time.Time
	// Exit is nil while it runs.
	Exit *ProcessExit
	// OutputStart is the offset of the first kept byte, OutputEnd that after the last.
	OutputStart, OutputEnd int64
	Acknowledged           int64
	// TruncatedBytes were dropped before any reader took them.
	TruncatedBytes int64
}

// ProcessExit is how a process ended. Code and Signal are as in ExecResult.
type ProcessExit struct {
	At          time.Time
	Code        int
	Signal      string
	TimedOut    bool
	OutOfMemory bool
	// Rebooted: it ended because the sandbox booted from its disk.
	Rebooted bool
}

// TerminalSize is the size of a terminal in characters.
type TerminalSize struct{ Cols, Rows int }

// ProcessCall is one operation on processes: ProcessStart, ProcessList, ProcessGet,
// ProcessInput, ProcessSignal, ProcessResize or ProcessAck.
type ProcessCall interface{ processCall() }

// ProcessStart starts a command that the guest keeps.
type ProcessStart struct {
	ID ProcessID
	// Command has no Stdin and no Input here. Its Timeout may be 0, for none.
	Command Exec
	Stdin   bool
	// Terminal is nil for a process without a terminal.
	Terminal *TerminalSize
	// JournalBytes is the size of the output that is kept; 0 is the guest's default.
	JournalBytes int
	// Block makes the process wait for acknowledgements instead of losing output.
	Block bool
	// Again, unless nil, makes the host start the process again after each boot from a
	// disk: it is the start command of a template. The host first ends that of the template
	// on which the sandbox is based. A host of an earlier version ignores it.
	Again *StartAgain
}

// StartAgain is how the start command of a template is started after a boot.
type StartAgain struct {
	// Ready is a command, with arguments, that succeeds once the process is ready, and
	// Timeout the longest time to wait for it. Empty means that there is nothing to wait for.
	Ready   []string
	Timeout time.Duration
}

// ProcessList asks for all processes, the oldest first.
type ProcessList struct {
	// Passive makes it no use of the sandbox: it does not resume the sandbox or delay the
	// idle timeout, and a pause cuts it at once.
	Passive bool
	// Commands adds the newest commands without an id, the oldest first. Their ID is empty,
	// and they have no output.
	Commands bool
}

// ProcessGet asks for one process, after its end if that comes within Wait.
type ProcessGet struct {
	ID   ProcessID
	Wait time.Duration
}

// ProcessInput writes to the stdin or terminal of a process, and closes stdin with
// Close. It waits until the process has taken everything.
type ProcessInput struct {
	ID    ProcessID
	Data  []byte
	Close bool
}

// ProcessSignal sends a signal to the process group, or with All to every process that
// the process has started.
type ProcessSignal struct {
	ID     ProcessID
	Number int
	All    bool
}

// ProcessResize changes the size of a terminal.
type ProcessResize struct {
	ID   ProcessID
	Size TerminalSize
}

// ProcessAck says that the output before Offset has arrived.
type ProcessAck struct {
	ID     ProcessID
	Offset int64
}

func (ProcessStart) processCall()  {}
func (ProcessList) processCall()   {}
func (ProcessGet) processCall()    {}
func (ProcessInput) processCall()  {}
func (ProcessSignal) processCall() {}
func (ProcessResize) processCall() {}
func (ProcessAck) processCall()    {}

// ProcessAttach reads the output of a process from an offset on, of which -1 is the end.
type ProcessAttach struct {
	ID     ProcessID
	Offset int64
	// AutoAck counts output as acknowledged once it is sent.
	AutoAck bool
}

// ProcessSink takes the events of an attached reader as they come. It may keep nothing
// of its arguments. An error from any method ends the reader.
type ProcessSink interface {
	// Attached is called first.
	Attached(p Process) error
	// Output takes a piece at an offset. Stream is "stdout", "stderr" or "pty".
	Output(stream string, offset int64, data []byte) error
	// Truncated tells of output that is no longer kept.
	Truncated(offset, bytes int64) error
}

// Processes works with the processes of running VMs.
type Processes interface {
	// CallProcess returns the process as it is after the operation, or all processes
	// for ProcessList.
	CallProcess(ctx context.Context, ref sandbox.Ref, call ProcessCall) ([]Process, error)
	// AttachProcess returns the process once it has ended and sink has all output. The
	// process continues when AttachProcess returns early.
	AttachProcess(ctx context.Context, ref sandbox.Ref, a ProcessAttach, sink ProcessSink) (Process, error)
}

// CallProcess implements Sandboxes.
func (g *guestWork) CallProcess(ctx context.Context, id sandbox.ID, call ProcessCall) (ps []Process, err error) {
	in := g.inGuest
	if list, ok := call.(ProcessList); ok && list.Passive {
		in = g.inRunningGuest
	}
	err = in(ctx, id, func(host Host, ref sandbox.Ref) error {
		ps, err = host.CallProcess(ctx, ref, call)
		return err
	})
	return ps, err
}

// AttachProcess implements Sandboxes.
func (g *guestWork) AttachProcess(ctx context.Context, id sandbox.ID, a ProcessAttach, sink ProcessSink) (p Process, err error) {
	err = g.inGuest(ctx, id, func(host Host, ref sandbox.Ref) error {
		p, err = host.AttachProcess(ctx, ref, a, sink)
		return err
	})
	return p, err
}
