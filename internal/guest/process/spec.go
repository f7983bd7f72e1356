package process

import (
	"strings"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Limits of a Table. They bound the memory that callers can make the agent use.
const (
	// MaxRunning is the number of commands that may run at once.
	MaxRunning = 512
	// MaxFinished is the number of ended commands kept for a late Connect, and
	// MaxRecords that of ended commands with an ID.
	MaxFinished = 128
	MaxRecords  = 256
	// MaxSubscribers is the number of readers of one command.
	MaxSubscribers = 16
	// MaxSpecBytes is the size of arguments and environment of one command.
	MaxSpecBytes = 1 << 20
	// MaxTableBytes is the size of arguments and environments of all commands
	// that the table holds.
	MaxTableBytes = 32 << 20
	// MaxLingering is the number of output pipes that stay open for children
	// of ended commands.
	MaxLingering = 256
	// MaxJournal and MinJournal bound the output that is kept of a command with an ID;
	// DefaultJournal is kept unless its Spec says otherwise.
	MaxJournal, MinJournal, DefaultJournal = 16 << 20, firstRing, 1 << 20
	// briefJournal is the output that waits for the readers of a command without an ID.
	briefJournal = 128 << 10
)

// Retention is the time for which an ended command without an ID can still be found,
// and RecordRetention that for one with an ID.
const (
	Retention       = 30 * time.Second
	RecordRetention = 24 * time.Hour
)

// Credential holds the user and groups of a command, by number.
type Credential struct {
	UID, GID uint32
	Groups   []uint32
}

// Size is the size of a terminal in characters.
type Size struct {
	Cols, Rows uint16
}

// Spec is a command to run.
type Spec struct {
	// Cmd is a path, or a name looked up in the PATH of Env. Args follow it
	// verbatim; no shell is involved.
	Cmd  string
	Args []string
	// Env is the whole environment, as KEY=value.
	Env []string
	// Dir is an absolute path.
	Dir        string
	Credential Credential
	// Stdin gives the command a pipe for its input; without it reads give
	// end of file. A terminal always has input.
	Stdin bool
	// Terminal, when not nil, runs the command on a terminal of that size.
	Terminal *Size
	// Timeout is the command's lifetime. Zero means none.
	Timeout time.Duration
	// Starting, when not nil, is called with the name of the command's group
	// before there is a process in it, and Started with the number of the
	// process as soon as it exists. A process may run before Started is called.
	Starting func(group string)
	Started  func(pid int)
	// Label is returned by List.
	Label Label
	// ID, when not empty, names the command: its output and its exit are kept after it
	// has ended.
	ID string
	// Journal is the size in bytes of the output that is kept of a command with an ID,
	// from MinJournal to MaxJournal; zero is DefaultJournal.
	Journal int
	// Block makes a command with an ID wait while Journal bytes are kept that were not
	// acknowledged. Otherwise it waits for an attached reader that keeps taking output,
	// and else the oldest output is dropped.
	Block bool
	// Unrecorded keeps a command without an ID out of Briefs.
	Unrecorded bool
}

// Label describes a command for List. The table only stores it.
type Label struct {
	Envs map[string]string
	// Cwd and Tag are nil when they were not given.
	Cwd, Tag *string
	// User is the name of the user.
	User string
}

// bytes returns the approximate memory, in bytes, that s uses.
func (s *Spec) bytes() int {
	n := len(s.Cmd) + len(s.Dir)
	for _, a := range s.Args {
		n += len(a) + 16
	}
	for _, e := range s.Env {
		n += len(e) + 16
	}
	if s.Label.Tag != nil {
		n += len(*s.Label.Tag)
	}
	return n
}

// validate checks s for errors that execve(2) would report without detail.
func (s *Spec) validate() error {
	if s.Cmd == "" {
		return fault.New(fault.Invalid, "missing_cmd", "cmd is required")
	}
	if s.bytes() > MaxSpecBytes {
		return fault.New(fault.TooLarge, "command_too_large", "arguments and environment may have at most %d bytes", MaxSpecBytes)
	}
	hasNUL := strings.ContainsRune(s.Cmd, 0) || strings.ContainsRune(s.Dir, 0)
	for _, a := range s.Args {
		hasNUL = hasNUL || strings.ContainsRune(a, 0)
	}
	for _, e := range s.Env {
		hasNUL = hasNUL || strings.ContainsRune(e, 0)
	}
	if hasNUL {
		return fault.New(fault.Invalid, "invalid_command", "command, arguments and environment must not hold NUL")
	}
	return nil
}
