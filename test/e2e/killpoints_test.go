package e2e

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/client"
	"github.com/wrenn-dev/wrenn/internal/control/postgres/pgtest"
	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
)

// usableLimit bounds the time from the restart of everything until a sandbox
// can be used, its resume included. The aim is 5 s; the limit is that of a busy
// machine, and far below the minute for which an operation under way is given
// the benefit of the doubt.
const usableLimit = 30 * time.Second

// killPoints is the number of random points at which each combination is
// killed.
func killPoints(t *testing.T) int {
	given := os.Getenv("WRENN_KILL_POINTS")
	if given == "" {
		return 3
	}
	n, err := strconv.Atoi(given)
	check(t, err)
	return n
}

// victim is an installation that can be killed and started again.
type victim struct {
	client func() *client.Client
	dir    string
	// revive kills parts of it, one of ways choices, and returns once it has
	// been started again.
	revive func(t *testing.T, way int)
	ways   int
}

// victimOps are the operations in flight at a kill.
var victimOps = []string{"pause", "resume", "create"}

// inRound returns the operation of a round and the process that is killed in it. In
// as many rounds as there are combinations each comes once, and the first few rounds are not of one kind.
func (v *victim) inRound(round int) (op string, way int) {
	n := len(victimOps)
	return victimOps[round%n], (round + round/n) % v.ways
}

// TestKilledAtAnyPoint kills the product with SIGKILL at random points of
// creates, pauses and resumes. No acknowledged change is lost, the sandboxes
// continue from their earlier state, and they can be used soon after the
// restart. WRENN_KILL_POINTS=20 has it try 20 points of each combination.
func TestKilledAtAnyPoint(t *testing.T) {
	for _, fs := range []string{"directory", "xfs"} {
		t.Run("up on "+fs, func(t *testing.T) {
			t.Parallel()
			killedAtAnyPoint(t, upVictim(t, fs))
		})
		t.Run("server and agent on "+fs, func(t *testing.T) {
			t.Parallel()
			killedAtAnyPoint(t, pairVictim(t, fs))
		})
	}
}

// upVictim is a `wrenn up`, which is killed as a whole, in every other round
// with its database.
func upVictim(t *testing.T, fs string) *victim {
	needVMs(t)
	dir, args := dirOn(t, fs)
	s := startUpIn(t, dir, args...)
	return &victim{
		client: func() *client.Client { return s.Client }, dir: dir,
		ways: 2,
		revive: func(t *testing.T, way int) {
			if way == 0 {
				kill(t, postmaster(t, dir))
			}
			s.stop(t, syscall.SIGKILL)
			s.start(t)
		},
	}
}

// pairVictim is a control plane and an agent, of which the one, the other or
// both are killed.
func pairVictim(t *testing.T, fs string) *victim {
	needVMs(t)
	dir, args := dirOn(t, fs)
	p := startPairIn(t, dir, pgtest.New(t), args...)
	return &victim{
		client: func() *client.Client { return p.Client }, dir: dir,
		ways: 3,
		revive: func(t *testing.T, way int) {
			plane, agent := way != 1, way != 0
			if plane {
				p.plane.stop(t, syscall.SIGKILL)
			}
			if agent {
				p.agent.stop(t, syscall.SIGKILL)
				p.startAgent(t)
			}
			if plane {
				p.startPlane(t)
			}
		},
	}
}

// dirOn returns a data directory on the file system that tests run on, or the
// arguments that give it an XFS of its own.
func dirOn(t *testing.T, fs string) (dir string, args []string) {
	t.Helper()
	if fs != "xfs" {
		return dataDir(t), nil
	}
	dir = hosttest.Dir(t)
	useImages(t, dir)
	return dir, []string{"--data-fs", "xfs", "--data-fs-size", "8G"}
}

func killedAtAnyPoint(t *testing.T, v *victim) {
	sb, err := v.client().Create(t.Context(), small)
	check(t, err)
	sh(t, v.client(), sb.ID, counter)
	took := map[string]time.Duration{}
	for _, op := range victimOps {
		begun := time.Now()
		check(t, <-v.begin(t, op, sb.ID, "whole "+op))
		took[op] = time.Since(begun)
	}
	var worst time.Duration
	rounds := killPoints(t)
	for round := range rounds {
		op, way := v.inRound(round)
		counted := sh(t, v.client(), sb.ID, "cat /tmp/n")
		if op == "resume" {
			_, err := v.client().Pause(t.Context(), sb.ID)
			check(t, err)
		}
		mark := op + strconv.Itoa(round)
		outcome := v.begin(t, op, sb.ID, mark)
		point := rand.N(took[op])
		time.Sleep(point) // the point itself, nothing is waited for
		v.revive(t, way)
		again := time.Now()
		acknowledged := <-outcome == nil
		v.usable(t, sb.ID)
		usable := time.Since(again)
		worst = max(worst, usable)
		t.Logf("%s of %v killed after %v (acknowledged: %t): usable %v after the restart",
			op, took[op].Round(time.Millisecond), point.Round(time.Millisecond), acknowledged, usable.Round(time.Millisecond))
		if usable > usableLimit {
			t.Errorf("after a kill in a %s the sandbox could not be used for %v, want at most %v", op, usable, usableLimit)
		}
		v.goesOn(t, sb.ID, counted)
		v.dropCreated(t, mark, op == "create" && acknowledged)
	}
	t.Logf("%d points: usable at most %v after the restart", rounds, worst.Round(time.Millisecond))
	wantAgreement(t, v.client(), v.dir)
}

// begin starts an operation and returns the channel for its outcome.
func (v *victim) begin(t *testing.T, op, id, mark string) <-chan error {
	t.Helper()
	c := v.client()
	if op == "create" {
		return createMarked(t, c, mark)
	}
	done := make(chan error, 1)
	go func() {
		var err error
		if op == "pause" {
			_, err = c.Pause(context.Background(), id)
		} else {
			_, err = c.Resume(context.Background(), id)
		}
		done <- err
	}()
	return done
}

// goesOn is the function of that name for a sandbox that may still be paused: a
// server that was killed has perhaps sent the agent a pause that the agent has
// not read when everything runs again, and that nobody can call back.
func (v *victim) goesOn(t *testing.T, id, before string) {
	t.Helper()
	eventually(t, "the sandbox continues", func() bool {
		v.usable(t, id)
		_, err := trySh(t.Context(), v.client(), id, countedOn(before))
		var refused *client.Error
		if err != nil && !errors.As(err, &refused) {
			t.Fatal(err) // the command itself failed, so its count is lost
		}
		return err == nil
	})
}

// usable returns when a command has run in the sandbox, which is resumed if it
// is paused.
func (v *victim) usable(t *testing.T, id string) {
	t.Helper()
	eventually(t, "the sandbox can be used", func() bool {
		sb, err := v.client().Get(t.Context(), id)
		if err != nil {
			return false
		}
		if sb.Status == client.StatusStopped || sb.Status == client.StatusError {
			t.Fatalf("the sandbox is %s (%v)", sb.Status, sb.StopReason)
		}
		if sb.Status == client.StatusPaused {
			_, err = v.client().Resume(t.Context(), id)
		}
		if err == nil {
			_, err = trySh(t.Context(), v.client(), id, "true")
		}
		return err == nil
	})
}

// dropCreated destroys the sandbox that was being created. One that was
// acknowledged runs.
func (v *victim) dropCreated(t *testing.T, mark string, acknowledged bool) {
	t.Helper()
	awaitStableRows(t, v.client())
	found := false
	for sb, err := range v.client().All(t.Context(), client.ListOptions{Status: []string{client.StatusRunning}}) {
		check(t, err)
		if sb.Metadata["mark"] == mark {
			found = true
			sh(t, v.client(), sb.ID, "true")
			check(t, v.client().Destroy(t.Context(), sb.ID))
		}
	}
	if acknowledged && !found {
		t.Error("a sandbox whose create was acknowledged does not run")
	}
}

// TestAcknowledgedCreateIsDurable kills the database the moment a create is
// acknowledged. No later answer says that the sandbox is
// still being created.
func TestAcknowledgedCreateIsDurable(t *testing.T) {
	t.Parallel()
	s := startUp(t)
	for range 3 {
		sb, err := s.Create(t.Context(), small)
		check(t, err)
		kill(t, postmaster(t, s.dir))
		eventually(t, "the sandbox can be used and destroyed", func() bool {
			now, err := s.Get(t.Context(), sb.ID)
			if err == nil && now.Status != client.StatusRunning {
				t.Fatalf("an acknowledged sandbox is %s", now.Status)
			}
			if err == nil {
				_, err = trySh(t.Context(), s.Client, sb.ID, "true")
			}
			if err == nil {
				err = s.Destroy(t.Context(), sb.ID)
			}
			if err == nil {
				return true
			}
			if f := failure(t, err); f.Status != 503 || f.Code != "database_unavailable" {
				t.Fatalf("without its database the server answers %d %s, want 503 database_unavailable", f.Status, f.Code)
			}
			return false
		})
	}
}
