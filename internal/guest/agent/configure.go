package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guest/filesystem"
)

// Configure gives the guest the identity and settings in msg. It fails closed:
// on error user processes stay frozen and the guest stays sealed if it was. token
// is the caller's; connections other than the one of ctx (OnConnection) are
// closed.
func (a *Agent) Configure(ctx context.Context, msg *guestv1.ConfigureRequest, token string) (*guestv1.ConfigureResponse, error) {
	received := time.Now()
	release, err := a.exclusive(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if e := a.state.enter(); e != nil {
		// Checked again inside the turn: the token may have changed meanwhile.
		e.Leave()
		if !e.Admits(token) {
			return nil, Unauthenticated("the access token is wrong")
		}
	}
	c := configuration{agent: a, msg: msg, received: received, answer: &guestv1.ConfigureResponse{
		GuestVersion: a.version, KernelRelease: a.platform.KernelRelease(), StepMicros: make(map[string]int64, 8),
	}}
	if err := c.apply(ctx); err != nil {
		a.log.Error("configure failed", slog.Any("error", err))
		return nil, err
	}
	c.answer.WallClockUnixNano = time.Now().UnixNano()
	return c.answer, nil
}

// configuration is one Configure under way.
type configuration struct {
	agent *Agent
	msg   *guestv1.ConfigureRequest
	// received is the time when msg, and the wall clock in it, arrived.
	received time.Time
	next     Settings
	answer   *guestv1.ConfigureResponse
}

// apply reseeds first: random numbers drawn earlier may be another clone's too.
// It thaws last, and opens the guest only after that.
func (c *configuration) apply(ctx context.Context) error {
	if err := validateConfigure(c.msg); err != nil {
		return err
	}
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"reseed", c.reseed}, {"clock", c.setClock}, {"identity", c.identify},
		{"accounts", c.resolveSettings}, {"connections", c.closeConnections}, {"thaw", c.thaw},
	} {
		begun := time.Now()
		if err := step.do(ctx); err != nil {
			return err
		}
		c.answer.StepMicros[step.name] = time.Since(begun).Microseconds()
	}
	return nil
}

// stepFault returns err of one step of Configure as a fault with reason. A fault
// stays as it is.
func stepFault(err error, reason, action string) error {
	var known *fault.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	return fault.Wrap(err, fault.Internal, reason, "the sandbox could not %s", action)
}

func (c *configuration) reseed(context.Context) error {
	if err := c.agent.platform.Reseed(c.msg.GetEntropy()); err != nil {
		return stepFault(err, "reseed_failed", "reseed")
	}
	c.answer.Reseeded = true
	return nil
}

// clockTolerance is the largest error of the wall clock that is not corrected: small
// steps do more harm than good.
const clockTolerance = time.Millisecond

// setClock sets the wall clock to the host's. The clock is read once, with the
// monotonic one, so that a delay between two readings makes no error.
func (c *configuration) setClock(context.Context) error {
	now := time.Now()
	hosts := c.msg.GetWallClockUnixNano() + int64(now.Sub(c.received))
	step := time.Duration(hosts - now.UnixNano())
	if step.Abs() < clockTolerance {
		return nil
	}
	moved, err := c.agent.platform.AdjustClock(step)
	c.answer.ClockStepNano = int64(moved)
	return stepFault(err, "clock_failed", "set clock")
}

// identify gives the guest its own names.
func (c *configuration) identify(context.Context) error {
	id := c.agent.platform
	if c.msg.GetNewIdentity() {
		if err := id.RenewIdentity(); err != nil {
			return stepFault(err, "identity_failed", "renew identity")
		}
		c.answer.NewIdentity = true
		c.agent.processes.DropBriefs()
	}
	if name := c.msg.GetHostname(); name != "" {
		if err := id.SetHostname(name); err != nil {
			return stepFault(err, "hostname_failed", "set hostname")
		}
	}
	if servers := c.msg.GetNameservers(); len(servers) > 0 {
		return stepFault(id.SetNameservers(servers), "nameservers_failed", "set name servers")
	}
	return nil
}

// resolveSettings creates missing users, and computes and saves the settings of
// the new epoch. It reads the account files only when it needs them. A default user that
// does not exist fails the calls that name no user, and not the start: the sandbox's owner
// may have removed it before a pause.
func (c *configuration) resolveSettings(context.Context) error {
	accounts, msg := c.agent.accounts, c.msg
	for _, u := range msg.GetUsers() {
		if err := c.agent.ensure(filesystem.User{Name: u.GetName(), UID: u.GetUid(), GID: u.GetGid(), Home: u.GetHome(), Shell: u.GetShell()}); err != nil {
			return err
		}
	}
	c.next = Settings{
		SandboxID: msg.GetSandboxId(), Generation: msg.GetGeneration(), Token: msg.GetAccessToken(), EnvdToken: msg.GetEnvdToken(),
		Envs: msg.GetEnvs(), DefaultUser: msg.GetDefaultUser(), DefaultDir: msg.GetDefaultWorkdir(),
	}
	if c.next.DefaultUser == "" {
		c.next.DefaultUser = rootUser
	}
	if c.next.DefaultUser != rootUser || c.next.DefaultDir != "" {
		user, err := accounts.Lookup(c.next.DefaultUser)
		if err != nil && fault.ReasonOf(err) != filesystem.ReasonUnknownUser {
			return err
		}
		if c.next.DefaultDir != "" {
			if c.next.DefaultDir, err = filesystem.Resolve(c.next.DefaultDir, filesystem.Bases{Home: user.Home}); err != nil {
				return err
			}
		}
	}
	if err := c.agent.state.save(c.next); err != nil {
		return stepFault(err, "settings_failed", "save settings")
	}
	// Before the thaw, so that user processes never see those of another sandbox.
	c.agent.publish(&c.next)
	return nil
}

// ensure creates a user, once: the sandbox's owner may change or remove it
// afterwards, and a clone need not check again.
func (a *Agent) ensure(want filesystem.User) error {
	known := slices.ContainsFunc(a.ensured, func(u filesystem.User) bool {
		return u.Name == want.Name && u.UID == want.UID && u.GID == want.GID && u.Home == want.Home && u.Shell == want.Shell
	})
	if known {
		return nil
	}
	if err := a.accounts.Ensure(want); err != nil {
		return fmt.Errorf("ensure user: %w", err)
	}
	if len(a.ensured) < maxUsers {
		a.ensured = append(a.ensured, want)
	}
	return nil
}

// rootUser always exists, even if no account file lists it.
const rootUser = "root"

// closeConnections closes the agent's connections, and with a new identity those
// of user processes too: they belong to the sandbox that this one was cloned
// from.
func (c *configuration) closeConnections(ctx context.Context) error {
	c.agent.connections.closeOthers(ctx)
	if !c.msg.GetNewIdentity() {
		return nil
	}
	n, err := c.agent.platform.CloseConnections()
	c.answer.ConnectionsClosed = uint32(n)
	return stepFault(err, "connections_failed", "close old connections")
}

// thaw lets user code run and opens the guest. With Hold, Release does that.
func (c *configuration) thaw(ctx context.Context) error {
	if c.msg.GetHold() {
		c.agent.state.seal()
		c.agent.pending = &c.next
		return nil
	}
	if err := c.agent.platform.Thaw(ctx); err != nil {
		return stepFault(err, "thaw_failed", "thaw user processes")
	}
	c.agent.processes.Continue()
	c.agent.pending = nil
	c.agent.state.open(c.next)
	return nil
}
