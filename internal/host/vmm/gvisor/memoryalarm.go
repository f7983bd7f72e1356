package gvisor

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/linux/cgroupfs"
)

// The limits of the memory alarm.
const (
	// graceMB is the memory, in MiB, from the most that a sandbox may use to the limit
	// of its control group. A sandbox takes it until the driver has stopped it. A fork
	// bomb grows by 450 MB/s, and took 265 MiB more at a load of 10 on two cores.
	graceMB = 768
	// graceStep is the growth, in bytes, after which the next command is ended while
	// the memory of the previous one is becoming free.
	graceStep = 192 << 20
	// alarmRoom is the memory, in bytes, below the most at which the first command is
	// ended. The memory that the guest keeps afterwards, such as files without content, is less
	// than the most.
	alarmRoom = 64 << 20
	// overdraft is how long a running sandbox may use more than the most before all its
	// commands are ended, and then before it is ended itself. Time below the most takes as
	// much away. The sentry needs some 10 s to give garbage back.
	overdraft = 30 * time.Second
	// alarmOften and alarmSeldom bound the interval of looks above the mark.
	alarmOften  = 10 * time.Millisecond
	alarmSeldom = time.Second
	// relieveRest is the least time between the ends of two commands.
	relieveRest = 100 * time.Millisecond
	// collectStep is the growth, in bytes, after which the sentry collects its garbage.
	// After the end of a command it does so every collectRest within collectFor.
	collectStep = 32 << 20
	collectRest = time.Second
	collectFor  = 10 * time.Second
	// alarmRate is the most memory, in bytes a second, that a sandbox is assumed to take.
	alarmRate = 2 << 30
)

// memoryAlarm is the host's watch over the memory of one sandbox.
//
// The agent in the guest ends commands before memory is used up, but it gets no CPU time
// beside hundreds of busy processes, and it estimates a number that the host alone knows: the
// memory of the sentry. The kernel of the host tells when the sandbox passes a mark, near
// the most that it may use. The driver then stops all tasks, ends the largest command and
// continues the others. The limit of the control group is graceMB higher, so that a
// sandbox survives until it has stopped.
//
//	0 ─── the agent ends commands ─── mark: the driver ends commands ─── most ─── limit: the kernel ends the sandbox
//
// The sandbox is ended if it uses more than the most for twice the overdraft. One
// goroutine uses a memoryAlarm. A later agent has its own after it adopted the sandbox.
type memoryAlarm struct {
	mark, most, limit uint64 // bytes
	// firm and used return the memory in bytes, without and with the cache of files.
	firm, used func() (uint64, error)
	paused     func() bool
	// relieve ends the largest command, and relieveAll ends all. Failures are logged.
	relieve, relieveAll func(ctx context.Context)
	// collect collects the garbage of the sentry, which takes a second for a large heap.
	collect    func(ctx context.Context)
	collecting atomic.Bool
	// end ends the sandbox.
	end func() error
	overdrawn
}

// overdrawn is the time that a sandbox uses more than the most.
type overdrawn struct {
	spent  time.Duration
	looked time.Time // when it was charged last
	over   bool      // it used more then
	warned bool      // all commands have been ended since spent was zero
}

// charge adds the time since the last look, or takes it away. over says whether the
// sandbox uses more than the most now.
func (o *overdrawn) charge(over bool) {
	now := time.Now()
	passed := now.Sub(o.looked)
	if !o.over {
		passed = -passed
	}
	o.spent = max(0, o.spent+passed)
	o.warned = o.warned && o.spent > 0
	o.looked, o.over = now, over
}

// watchMemory starts the watch over the memory of v. It ends with v or this agent's
// hold on it.
func (d *Driver) watchMemory(v *vm) {
	go func() {
		err := fault.Caught(func() error {
			group, err := v.memoryGroup(v.power.life)
			if err != nil {
				return err
			}
			return d.memoryAlarm(v).watch(v.power.life, group)
		})
		if err != nil && v.power.life.Err() == nil && !errors.Is(err, errors.ErrUnsupported) {
			d.log.Warn("the memory of a sandbox is not watched", "sandbox", v.Record().ID, "error", err)
		}
	}()
}

// memoryAlarm returns the alarm of v.
func (d *Driver) memoryAlarm(v *vm) *memoryAlarm {
	about := v.about.Seal
	most := uint64(d.info.Shape.HostMemoryMB(about.MemoryMB, about.DiskMB)+overheadMB) << 20
	return &memoryAlarm{
		mark: most - alarmRoom, most: most, limit: most + graceMB<<20,
		paused: v.hold.isPaused, relieve: v.endLargest, relieveAll: v.endUsers, collect: v.reduce, end: v.overdraw,
	}
}

// groupPatience is how long a sandbox may be in the memory group of the agent after its
// start, where the driver cannot start it in its own (Config.Cgroup).
const groupPatience = time.Minute

// memoryGroup returns the control group that counts the memory of the sandbox alone. It
// fails with errors.ErrUnsupported if there is none.
func (v *vm) memoryGroup(ctx context.Context) (cgroupfs.Memory, error) {
	own, ownErr := cgroupfs.MemoryOf(os.Getpid())
	for late := time.Now().Add(groupPatience); ; rest(ctx, alarmSeldom) {
		group, err := cgroupfs.MemoryOf(v.Record().PID)
		switch {
		case !v.Runs() || ctx.Err() != nil: // the number may belong to another process
			return cgroupfs.Memory{}, errors.ErrUnsupported
		case err == nil && (ownErr != nil || group != own):
			return group, nil
		case err != nil && !errors.Is(err, errors.ErrUnsupported):
			return cgroupfs.Memory{}, err
		case time.Now().After(late):
			return cgroupfs.Memory{}, errors.ErrUnsupported
		}
	}
}

// watch answers notices until ctx ends.
func (a *memoryAlarm) watch(ctx context.Context, group cgroupfs.Memory) error {
	a.firm, a.used = group.Firm, group.Used
	limit, err := group.Limit()
	if err != nil {
		return err
	}
	a.limit = min(a.limit, limit) // an earlier version gave no grace
	mark, err := group.MarkAt(a.mark)
	if err != nil {
		return err
	}
	defer mark.Close()
	defer context.AfterFunc(ctx, func() { _ = mark.Close() })()
	err = a.run(ctx, mark)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, os.ErrClosed) {
		return nil // the control group has gone with its sandbox, or ctx has ended
	}
	return err
}

// notices is a cgroupfs.Mark.
type notices interface {
	Arm() error
	Disarm() error
	Wait() error
}

// run answers notices. An earlier agent may have armed them.
func (a *memoryAlarm) run(ctx context.Context, n notices) error {
	for {
		if err := n.Disarm(); err != nil {
			return err
		}
		if err := a.answer(ctx); err != nil || ctx.Err() != nil {
			return err
		}
		if err := n.Arm(); err != nil {
			return err
		}
		if used, err := a.used(); err != nil {
			return err
		} else if used < a.mark {
			if err := n.Wait(); err != nil {
				return err
			}
		}
	}
}

// answer returns when the memory is below the mark.
func (a *memoryAlarm) answer(ctx context.Context) error {
	over := overuse{alarm: a, trigger: a.mark}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil
		}
		used, err := a.used()
		if err != nil || used < a.mark {
			a.charge(false)
			return err
		}
		firm, err := a.firm()
		if err != nil {
			return err
		}
		if a.paused() {
			over = overuse{alarm: a, trigger: a.mark}
			a.looked = time.Now() // a pause of the user adds nothing and takes nothing away
			timer.Reset(alarmSeldom)
			continue
		}
		if err := over.react(ctx, firm); err != nil {
			return err
		}
		timer.Reset(over.pause(firm))
	}
}

// overuse is a time in which a sandbox uses about the most memory that it may.
type overuse struct {
	alarm    *memoryAlarm
	trigger  uint64    // the bytes at which the next command is ended
	relieved time.Time // when the last command was ended
	// collected is the least memory, in bytes, since the last collection of garbage,
	// which began at collectedAt.
	collected   uint64
	collectedAt time.Time
}

// collect lets the sentry collect its garbage after each growth by collectStep, and
// for some time after the end of a command. By itself it does so when its heap has
// doubled, for which there is no room.
func (o *overuse) collect(ctx context.Context, firm uint64) {
	now := time.Now()
	o.collected = min(o.collected, firm)
	rests := now.Sub(o.relieved) < collectFor && now.Sub(o.collectedAt) >= collectRest
	if !rests && firm < o.collected+collectStep || !o.alarm.collecting.CompareAndSwap(false, true) {
		return
	}
	o.collected, o.collectedAt = firm, now
	go func() {
		defer o.alarm.collecting.Store(false)
		_ = fault.Caught(func() error { o.alarm.collect(ctx); return nil })
	}()
}

// pause returns the time until the next look at a sandbox that uses firm bytes.
func (o *overuse) pause(firm uint64) time.Duration {
	full := time.Duration(float64(o.trigger-min(o.trigger, firm)) / alarmRate * float64(time.Second))
	return min(max(full, alarmOften), alarmSeldom)
}

// react ends commands, or the sandbox, if it uses firm bytes.
func (o *overuse) react(ctx context.Context, firm uint64) error {
	a, now := o.alarm, time.Now()
	a.charge(firm >= a.most)
	if firm < a.mark {
		*o = overuse{alarm: a, trigger: a.mark, relieved: o.relieved}
		return nil
	}
	o.trigger = min(o.trigger, firm+graceStep)
	o.collect(ctx, firm)
	switch {
	case firm < a.most:
	case a.spent >= 2*overdraft && a.warned:
		return a.end()
	case a.spent >= overdraft && !a.warned:
		a.relieveAll(ctx)
		a.warned = true
		return nil
	}
	if firm >= o.trigger && now.Sub(o.relieved) >= relieveRest {
		a.relieve(ctx)
		if after, err := a.firm(); err == nil {
			firm = after
		}
		o.relieved, o.trigger = time.Now(), min(firm+graceStep, a.limit-graceStep)
	}
	return nil
}
