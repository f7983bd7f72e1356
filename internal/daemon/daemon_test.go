package daemon_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wrenn-dev/wrenn/internal/daemon"
)

var errBroken = errors.New("broken")

// journal records events from several goroutines in the order they happen.
type journal struct {
	mu     sync.Mutex
	events []string
}

func (j *journal) note(e string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events = append(j.events, e)
}

// part is a component that takes startUp to become ready, fails after life if
// that is not zero, and takes windDown to stop.
type part struct {
	name                    string
	startUp, life, windDown time.Duration
	fail                    error
	deaf                    bool // never becomes ready
}

func (j *journal) component(p part) daemon.Component {
	return daemon.Component{Name: p.name, StopTimeout: 10 * time.Second,
		Run: func(ctx context.Context, ready func()) error {
			j.note("start " + p.name)
			time.Sleep(p.startUp)
			if !p.deaf {
				ready()
				ready() // a second announcement is harmless
			}
			var death <-chan time.Time
			if p.life > 0 {
				death = time.After(p.life)
			}
			select {
			case <-ctx.Done():
			case <-death:
				j.note("die " + p.name)
				return p.fail
			}
			time.Sleep(p.windDown)
			j.note("stop " + p.name)
			return ctx.Err()
		}}
}

func run(ctx context.Context, j *journal, parts ...part) error {
	var cs []daemon.Component
	for _, p := range parts {
		cs = append(cs, j.component(p))
	}
	return daemon.Run(ctx, slog.New(slog.DiscardHandler), cs...)
}

func (j *journal) want(t *testing.T, want ...string) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	if !slices.Equal(j.events, want) {
		t.Errorf("events %q, want %q", j.events, want)
	}
}

func TestStartsInOrderStopsInReverse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var j journal
		err := run(ctx, &j,
			part{name: "a", startUp: 3 * time.Second, windDown: time.Second},
			part{name: "b", startUp: time.Second, windDown: 5 * time.Second},
			part{name: "c"})
		if err != nil {
			t.Errorf("Run: %v", err)
		}
		j.want(t, "start a", "start b", "start c", "stop c", "stop b", "stop a")
	})
}

func TestFirstFailureStopsAllAndIsReturned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		err := run(t.Context(), &j,
			part{name: "a"},
			part{name: "b", life: time.Minute, fail: errBroken},
			part{name: "c", windDown: time.Second})
		if !errors.Is(err, errBroken) || !strings.HasPrefix(err.Error(), "b: ") {
			t.Errorf("Run: %v, want b's failure", err)
		}
		j.want(t, "start a", "start b", "start c", "die b", "stop c", "stop a")
	})
}

func TestFailureWhileStarting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		err := run(t.Context(), &j,
			part{name: "a", life: time.Second, fail: errBroken},
			part{name: "b", deaf: true},
			part{name: "c"})
		if !errors.Is(err, errBroken) {
			t.Errorf("Run: %v, want a's failure", err)
		}
		j.want(t, "start a", "start b", "die a", "stop b")
	})
}

func TestCancelWhileStarting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var j journal
		if err := run(ctx, &j, part{name: "a", deaf: true}, part{name: "b"}); err != nil {
			t.Errorf("Run: %v, want nil: the stop was asked for", err)
		}
		j.want(t, "start a", "stop a")
	})
}

func TestSilentEndIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		if err := run(t.Context(), &j, part{name: "a", life: time.Second}); !errors.Is(err, daemon.ErrEnded) {
			t.Errorf("Run: %v, want ErrEnded", err)
		}
	})
}

func TestStopHasADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		var j journal
		err := run(ctx, &j, part{name: "a"}, part{name: "slow", windDown: time.Hour})
		if err == nil || !strings.Contains(err.Error(), "slow: did not stop within 10s") {
			t.Errorf("Run: %v, want the deadline of slow", err)
		}
		if took := time.Since(began); took != 11*time.Second {
			t.Errorf("Run took %s, want 11s", took)
		}
		time.Sleep(time.Hour) // lets the abandoned component end within the bubble
		j.want(t, "start a", "start slow", "stop a", "stop slow")
	})
}

func TestFailureWhileStoppingIsReturned(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := daemon.Component{Name: "a", Run: func(ctx context.Context, ready func()) error {
		ready()
		cancel()
		<-ctx.Done()
		return errBroken
	}}
	if err := daemon.Run(ctx, slog.New(slog.DiscardHandler), c); !errors.Is(err, errBroken) {
		t.Errorf("Run: %v, want the failure", err)
	}
}
