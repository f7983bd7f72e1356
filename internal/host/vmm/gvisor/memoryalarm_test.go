package gvisor

import (
	"context"
	"errors"
	"maps"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// fakeUse is a sandbox whose memory is a number.
type fakeUse struct {
	firm, cache          uint64
	relieved, all, ended int
	start                time.Time
	// change is called with the time since start before each look, and onRelieve at
	// the end of a command.
	change    func(since time.Duration)
	onRelieve func()
	paused    bool
	collected atomic.Int32
	noticed   chan struct{}

	armed, disarmed, waits int
}

func (f *fakeUse) alarm() *memoryAlarm {
	f.start = time.Now()
	return &memoryAlarm{
		mark: 1<<30 - alarmRoom, most: 1 << 30, limit: 1<<30 + graceMB<<20,
		firm: func() (uint64, error) { return f.firm, nil },
		used: func() (uint64, error) {
			if f.change != nil {
				f.change(time.Since(f.start))
			}
			return f.firm + f.cache, nil
		},
		paused: func() bool { return f.paused },
		relieve: func(context.Context) {
			f.relieved++
			if f.onRelieve != nil {
				f.onRelieve()
			}
		},
		relieveAll: func(context.Context) { f.all++ },
		collect:    func(context.Context) { f.collected.Add(1) },
		end:        func() error { f.ended++; f.firm = 0; return nil },
	}
}

func (f *fakeUse) Arm() error    { f.armed++; return nil }
func (f *fakeUse) Disarm() error { f.disarmed++; return nil }
func (f *fakeUse) Wait() error {
	f.waits++
	if _, ok := <-f.noticed; !ok {
		return os.ErrClosed
	}
	return nil
}

// TestAlarmEndsOneCommand: the end of one command is enough if its memory becomes free,
// also if that takes a while.
func TestAlarmEndsOneCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeUse{firm: 1<<30 + 200<<20}
		f.change = func(since time.Duration) {
			if since > 20*time.Second {
				f.firm = 1 << 29
			}
		}
		if err := f.alarm().answer(t.Context()); err != nil || f.relieved != 1 || f.all+f.ended > 0 {
			t.Errorf("%v, %d commands ended, all %d times, sandbox %d times; want one command", err, f.relieved, f.all, f.ended)
		}
	})
}

// TestAlarmEndsTheNextCommand: as long as memory grows, the next command is ended, before
// the limit is reached.
func TestAlarmEndsTheNextCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate = 450 << 20 // bytes a second
		f, most := &fakeUse{}, uint64(0)
		f.change = func(since time.Duration) {
			if f.relieved < 4 {
				f.firm = 1<<30 + uint64(since.Seconds()*rate)
			}
		}
		f.onRelieve = func() {
			most = max(most, f.firm)
			if f.relieved == 4 {
				f.firm = 0
			}
		}
		if err := f.alarm().answer(t.Context()); err != nil || f.relieved != 4 || most > 1<<30+4*graceStep {
			t.Errorf("%v, %d commands ended, at most %d MiB used; want 4 commands, each after %d MiB", err, f.relieved, most>>20, graceStep>>20)
		}
	})
}

// TestAlarmSparesARest: memory below the most that a command leaves is used as long as it lasts,
// and growth ends another command.
func TestAlarmSparesARest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeUse{firm: 1<<30 - alarmRoom}
		f.change = func(since time.Duration) {
			switch {
			case since > time.Hour+time.Minute:
				f.firm = 0
			case since > time.Hour && f.relieved == 1:
				f.firm = 1<<30 - alarmRoom + graceStep
			default:
				f.firm = 1<<30 - alarmRoom
			}
			if since < time.Hour && f.relieved > 1 {
				t.Fatal("a command is ended that takes no memory")
			}
		}
		if err := f.alarm().answer(t.Context()); err != nil || f.relieved != 2 || f.all+f.ended > 0 {
			t.Errorf("%v, %d commands ended, all %d times, sandbox %d times; want two commands", err, f.relieved, f.all, f.ended)
		}
		if n := f.collected.Load(); n < 2 || n > 25 {
			t.Errorf("garbage was collected %d times in an hour, want some times after each of two commands", n)
		}
	})
}

// TestAlarmEndsTheSandboxLast: a sandbox that stays above the most loses all commands
// first, and is ended if that does not help. One that is paused is left alone.
func TestAlarmEndsTheSandboxLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeUse{firm: 1<<30 + 1}
		f.change = func(since time.Duration) {
			f.paused = since < time.Hour
			if f.paused && f.relieved+f.all+f.ended > 0 {
				t.Fatal("commands of a paused sandbox are ended")
			}
		}
		err := f.alarm().answer(t.Context())
		took := time.Since(f.start) - time.Hour
		if err != nil || f.relieved != 1 || f.all != 1 || f.ended != 1 || took < 2*overdraft || took > 2*overdraft+5*alarmSeldom {
			t.Errorf("%v after %v, %d commands ended, all %d times, sandbox %d times; want each once in %v", err, took, f.relieved, f.all, f.ended, 2*overdraft)
		}
	})
}

// TestAlarmCountsAllOverdraft: a sandbox that goes below the most now and then, for less
// time than it is above, is ended nevertheless.
func TestAlarmCountsAllOverdraft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeUse{}
		f.change = func(since time.Duration) {
			if f.firm = 1<<30 + 1; since%(20*time.Second) >= 15*time.Second {
				f.firm = 1 << 29
			}
			if f.ended > 0 {
				f.firm = 0
			}
		}
		a := f.alarm()
		for f.ended == 0 && time.Since(f.start) < time.Hour {
			if err := a.answer(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		took := time.Since(f.start)
		if f.all != 1 || f.ended != 1 || took > 5*overdraft {
			t.Errorf("after %v all commands were ended %d times, the sandbox %d times; want each once", took, f.all, f.ended)
		}
		f.ended = 0
		f.change = func(since time.Duration) {
			f.firm = 1 << 29
			if since%(time.Minute) < overdraft/2 {
				f.firm = 1<<30 + 1
			}
		}
		a = f.alarm()
		for time.Since(f.start) < time.Hour {
			if err := a.answer(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if f.ended > 0 || f.all > 1 {
			t.Errorf("a sandbox that is below the most for longer than above was ended %d times, its commands %d times", f.ended, f.all-1)
		}
	})
}

// TestAlarmSparesTheCacheOfFiles: memory that the kernel can take back ends nothing, and
// costs few looks.
func TestAlarmSparesTheCacheOfFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, looks := &fakeUse{firm: 1 << 28, cache: 1 << 30}, 0
		f.change = func(since time.Duration) {
			looks++
			if since > time.Minute {
				f.cache = 0
			}
		}
		if err := f.alarm().answer(t.Context()); err != nil || f.relieved+f.all+f.ended > 0 || looks > 200 {
			t.Errorf("%v, %d commands ended, %d looks in a minute; want none and at most 200", err, f.relieved, looks)
		}
	})
}

// TestAlarmWaitsForTheKernel: below the most nothing runs between two notices, and
// processes above it are not slowed.
func TestAlarmWaitsForTheKernel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeUse{noticed: make(chan struct{})}
		f.onRelieve = func() {
			if f.disarmed != f.armed+1 {
				t.Error("the processes of a sandbox are slowed while it is being helped")
			}
			f.firm = 0
		}
		done := make(chan error, 1)
		go func() { done <- f.alarm().run(t.Context(), f) }()
		for range 3 {
			synctest.Wait()
			f.firm = 1 << 30
			f.noticed <- struct{}{}
			time.Sleep(alarmSeldom)
		}
		synctest.Wait()
		if f.relieved != 3 || f.armed != 4 || f.waits != 4 {
			t.Errorf("after 3 notices: %d commands ended, armed %d times, waited %d times; want 3, 4 and 4", f.relieved, f.armed, f.waits)
		}
		close(f.noticed)
		if err := <-done; !errors.Is(err, os.ErrClosed) {
			t.Errorf("after the end: %v, want %v", err, os.ErrClosed)
		}
	})
}

func TestSizesOf(t *testing.T) {
	const text = "900 100 3 4 0 5 0\n0::/user/agent1-1\n" +
		"9 50 3 4 0 5 0\n0::/user/agent1-2/inner/deep\n" +
		"9 70 3 4 0 5 0\n4:memory:/x\n0::/user/agent1-2\n" +
		"9 999 3 4 0 5 0\n0::/agent\n9 999 3 4 0 5 0\n0::/\n0::/user/../agent\nbroken\n"
	want := map[string]uint64{"agent1-1": 100 * guestPage, "agent1-2": 120 * guestPage}
	if got, err := sizesOf(text); err != nil || !maps.Equal(got, want) {
		t.Errorf("sizes %v, %v, want %v", got, err, want)
	}
	if got, err := sizesOf("0::/user/" + strings.Repeat("a", 1<<20) + "\n" + text); err == nil {
		t.Errorf("after a line that is too long: sizes %v, want an error", got)
	}
}
