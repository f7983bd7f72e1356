package boot

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Orphans are the commands of agents of this boot that have died. Their output is
// lost and their timeout is not enforced; the ledger holds their wait status. It
// implements agent.Ledger.
type Orphans struct {
	ledger *Ledger
	proc   string // where the proc file system is mounted
	users  string // the cgroup that holds one for each command
	own    string // prefix of the cgroups of the running agent
}

// NewOrphans returns the Orphans of agents other than the one whose cgroups
// begin with own.
func NewOrphans(ledger *Ledger, own string) *Orphans {
	return &Orphans{ledger: ledger, proc: inherited.proc, users: inherited.users(), own: own}
}

// orphanPoll is the interval at which a process that is ending is checked.
const orphanPoll = 20 * time.Millisecond

// CommandStarting records that this agent starts the command with a ticket in a
// group. A failure loses only the record.
func (o *Orphans) CommandStarting(ticket uint64, group string) {
	_ = o.ledger.begin(ticket, 0, o.own+group)
}

// CommandStarted records that this agent's command with a ticket has the process
// pid. A failure loses only the record.
func (o *Orphans) CommandStarted(ticket uint64, pid int) { _ = o.ledger.begin(ticket, pid, "") }

// OrphanStatus returns the wait status of the command with a ticket. It kills one
// that still runs, with all its descendants. The ticket of a command that is no
// orphan is NotFound process_not_found.
func (o *Orphans) OrphanStatus(ctx context.Context, ticket uint64) (unix.WaitStatus, error) {
	pid, starting, err := o.ledger.begun(ticket)
	if errors.Is(err, errNoEntry) {
		return 0, fault.New(fault.NotFound, "process_not_found", "no command was started with this ticket")
	}
	if err != nil {
		return 0, err
	}
	poll := time.NewTicker(orphanPoll)
	defer poll.Stop()
	if pid == 0 {
		return o.endGroup(ctx, starting, poll)
	}
	for {
		group, runs := o.groupOf(pid)
		if !runs {
			return o.ended(pid)
		}
		if group == "" {
			return 0, fault.New(fault.NotFound, "process_not_found", "process %d is not a command of an earlier agent", pid)
		}
		// Again in each round, for processes that were forked in between.
		_ = os.WriteFile(filepath.Join(group, "cgroup.kill"), []byte("1"), 0)
		select {
		case <-poll.C:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// endGroup kills the command of an agent that died before it knew the command's
// process, and returns the status of a killed process. Such a command killed the
// agent, was killed with it, or never ran.
func (o *Orphans) endGroup(ctx context.Context, group string, poll *time.Ticker) (unix.WaitStatus, error) {
	if strings.HasPrefix(group, o.own) {
		return 0, fault.New(fault.NotFound, "process_not_found", "the command is being started by this agent")
	}
	dir := filepath.Join(o.users, group)
	for {
		members, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if err != nil || len(members) == 0 {
			return unix.WaitStatus(unix.SIGKILL), nil
		}
		// Again in each round, for processes that were forked in between.
		_ = os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0)
		select {
		case <-poll.C:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// ended returns the wait status of a process that no longer exists.
func (o *Orphans) ended(pid int) (unix.WaitStatus, error) {
	status, err := o.ledger.find(pid)
	if errors.Is(err, errNoEntry) {
		return 0, fault.New(fault.NotFound, "process_not_found", "the end of process %d is not known", pid)
	}
	return status, err
}

// groupOf reports whether the process pid exists, as a zombie too, and returns the
// directory of its cgroup if that belongs to an earlier agent.
func (o *Orphans) groupOf(pid int) (dir string, exists bool) {
	text, err := os.ReadFile(filepath.Join(o.proc, strconv.Itoa(pid), "cgroup"))
	if err != nil {
		return "", false
	}
	_, path, _ := strings.Cut(strings.TrimSpace(string(text)), "::")
	name := filepath.Base(path)
	if filepath.Base(filepath.Dir(path)) != filepath.Base(o.users) || !strings.HasPrefix(name, "agent") || strings.HasPrefix(name, o.own) {
		return "", true
	}
	return filepath.Join(o.users, name), true
}
