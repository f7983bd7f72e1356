package host

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"regexp"
	"time"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// A restored guest (from a template snapshot, a snapshot of a sandbox or its own
// pause) continues with the random state, the clock, the names and the token of
// the past. Before user code runs, the host agent sends it the present ones. The
// guest has to confirm them, and the host agent measures its clock. A guest that
// does not confirm is not used.

// entropyBytes is how much fresh randomness a guest gets at each start.
const entropyBytes = 64

const (
	// maxClockSkew is how far a guest's clock may be off when user code starts.
	maxClockSkew = 50 * time.Millisecond
	// clockTries bounds how often the clock is set and measured: a busy host may
	// hold answers up.
	clockTries = 20
)

// renewal selects the parts of a guest's identity that Configure replaces.
type renewal struct {
	// identity: the sandbox is not the one that the snapshot was taken of.
	identity bool
	// users: the guest has never been told of its users.
	users bool
	// token is the guest's next access token; empty keeps the present one.
	token string
	// idle: no user process exists, so that nothing has to be held back, and
	// one exchange does unless it shows the clock to be wrong.
	idle bool
}

// configure gives the guest the identity, clock and settings of the journal, and
// lets user code run.
func (b *body) configure(ctx context.Context, what renewal) error {
	start := time.Now()
	h := &sandbox.RestoreReport{Generation: b.rec.Generation, VMGeneration: "none", Steps: make(map[string]time.Duration)}
	skew, err := b.renew(ctx, what, h)
	if err == nil && (!what.idle || skew.Abs() > maxClockSkew/2) {
		err = b.release(ctx, skew, h)
	}
	if err != nil {
		return causeOr(ctx, err)
	}
	h.At, h.Steps["total"] = time.Now(), time.Since(start)
	b.rec.RestoreReport = h
	return nil
}

// renew configures the guest while user code is frozen, and returns
// how far its clock seems to be off.
func (b *body) renew(ctx context.Context, what renewal, h *sandbox.RestoreReport) (skew time.Duration, err error) {
	if what.token != "" {
		// Written down first: should the agent die, the next one has to try both.
		b.rec.NextToken = what.token
		if err := b.save(); err != nil {
			if b.rec.Op == journal.OpCreate {
				return 0, err
			}
			b.unsaved = true // the next write of the journal has the new token
		}
	}
	req := b.configureRequest(what)
	res, err := b.Guest().Configure(ctx, req)
	answered := time.Now()
	if err != nil {
		return 0, err
	}
	if what.token != "" {
		b.rec.Token, b.rec.NextToken, h.TokenReplaced = what.token, "", true
		b.Guest().SetToken(b.rec.Token)
	}
	h.ClockStep = time.Duration(res.GetClockStepNano())
	h.Reseeded, h.NewIdentity, h.NetworkAnswers = res.GetReseeded(), res.GetNewIdentity(), true
	h.ConnectionsClosed = int(res.GetConnectionsClosed())
	for name, micros := range res.GetStepMicros() {
		if len(h.Steps) == maxGuestSteps {
			break
		}
		if !guestStep.MatchString(name) {
			continue
		}
		h.Steps["guest_"+name] = time.Duration(micros) * time.Microsecond
	}
	switch {
	case !h.Reseeded:
		return 0, fault.New(fault.HostFailed, "not_reseeded", "the guest did not confirm fresh randomness")
	case what.identity && !h.NewIdentity:
		return 0, fault.New(fault.HostFailed, "not_renewed", "the guest did not confirm a new identity")
	}
	trip := answered.Sub(time.Unix(0, req.GetWallClockUnixNano()))
	if !what.idle {
		// A cold guest takes long until it sets the clock, and little time from
		// then on, so its answer counts as immediate.
		trip = 0
	}
	h.ClockSkew, h.Steps["round_trip"] = time.Unix(0, res.GetWallClockUnixNano()).Sub(answered.Add(-trip/2)), trip
	return h.ClockSkew, nil
}

// guestStep is the form of the names that a guest gives to its steps.
var guestStep = regexp.MustCompile(`^[a-z][a-z_]{0,31}$`)

// maxGuestSteps bounds the steps that a guest can add to a restore report.
const maxGuestSteps = 16

// release corrects the guest's clock by skew, lets user code run, and measures
// the remaining skew in round trips that are short by then, until it is known to
// be small. Until then each round moves the clock to the middle of the bounds, where
// the error can be half their width at most. A clock that may be right is used in
// the end; one that is known to be wrong is not.
func (b *body) release(ctx context.Context, skew time.Duration, h *sandbox.RestoreReport) error {
	left, adjust := unknownSkew(), -skew
	for range clockTries {
		sent := time.Now()
		wall, err := b.Guest().Release(ctx, adjust)
		if err != nil {
			return err
		}
		received := time.Now()
		left = left.adjusted(adjust).measured(sent, received, wall)
		h.ClockStep += adjust
		h.ClockSkew, h.Steps["round_trip"] = left.middle(), left.most-left.least
		if left.surelyWithin(maxClockSkew) {
			return nil
		}
		adjust = left.correction()
	}
	if left.surelyBeyond(maxClockSkew) {
		return fault.New(fault.HostFailed, "clock_not_set", "the guest's clock is %s off and could not be set", h.ClockSkew.Round(time.Millisecond))
	}
	return nil
}

func (b *body) configureRequest(what renewal) *guestv1.ConfigureRequest {
	var random [entropyBytes]byte
	_, _ = rand.Read(random[:]) // never fails, see crypto/rand
	token := b.rec.Token
	if what.token != "" {
		token = what.token
	}
	req := &guestv1.ConfigureRequest{
		SandboxId: string(b.rec.ID), Generation: uint64(b.rec.Generation),
		Entropy: random[:], Hostname: b.rec.Spec.GuestHostname(b.rec.ID), Envs: guestEnv(&b.rec),
		DefaultUser: cmp.Or(b.rec.Spec.User, "root"), DefaultWorkdir: b.rec.Spec.Workdir, AccessToken: token, EnvdToken: b.rec.Spec.EnvdToken,
		Nameservers: b.mgr.cfg.Nameservers, NewIdentity: what.identity, Hold: !what.idle,
	}
	if what.users {
		req.Users = []*guestv1.User{{Name: "user", Uid: 1000, Gid: 1000, Home: "/home/user", Shell: "/bin/bash"}}
	}
	req.WallClockUnixNano = time.Now().UnixNano() // last: it ages
	return req
}

const (
	// reconfigureTries is how often reconfigure tries: a guest that was in the
	// midst of something when its host went away may end the connection of the
	// next host with it.
	reconfigureTries = 5
	reconfigurePause = 200 * time.Millisecond
)

// reconfigure is configure for a guest in an unknown state: sealed, open, or in
// between with the token that it was about to get. It is no start: the last
// start's measurements stay, if the guest confirmed them.
func (b *body) reconfigure(ctx context.Context) error {
	before := b.rec.RestoreReport
	tokens := []string{b.rec.Token}
	if next := b.rec.NextToken; next != "" {
		tokens = append(tokens, next)
	}
	pause := time.NewTicker(reconfigurePause)
	defer pause.Stop()
	var err error
	for range reconfigureTries {
		for _, token := range tokens {
			b.rec.Token = token
			b.Guest().SetToken(token)
			if err = b.configure(ctx, renewal{}); err == nil {
				b.rec.NextToken = ""
				if before != nil && before.Reseeded && before.Generation == b.rec.Generation {
					b.rec.RestoreReport = before
				}
				return nil
			}
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		}
	}
	return err
}
