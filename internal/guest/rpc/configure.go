package rpc

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

// exclusive waits until no other Configure or Quiesce is under way.
func (s *Server) exclusive(ctx context.Context) (release func(), err error) {
	select {
	case s.turn <- struct{}{}:
		return func() { <-s.turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// configure makes the machine msg's. It fails closed: on error user processes
// stay frozen and the guest as sealed as it was. token is the caller's.
func (s *Server) configure(ctx context.Context, msg *guestv1.ConfigureRequest, token string) (*guestv1.ConfigureResponse, error) {
	received := time.Now()
	release, err := s.exclusive(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if e := s.state.enter(); e != nil {
		// Checked again inside the turn: the token may have changed meanwhile.
		e.leave()
		if !e.admits(token) {
			return nil, errAccess("the access token is wrong")
		}
	}
	c := configuration{server: s, msg: msg, received: received, answer: &guestv1.ConfigureResponse{
		GuestVersion: s.version, KernelRelease: s.kernel.Release(), StepMicros: make(map[string]int64, 8),
	}}
	if err := c.apply(ctx); err != nil {
		s.log.Error("configure failed", slog.Any("error", err))
		return nil, err
	}
	c.answer.WallClockUnixNano = time.Now().UnixNano()
	return c.answer, nil
}

// configuration is one Configure under way.
type configuration struct {
	server *Server
	msg    *guestv1.ConfigureRequest
	// received is when msg, and the time it tells, came in.
	received time.Time
	next     settings
	answer   *guestv1.ConfigureResponse
}

// apply reseeds first: nothing that is drawn before can be trusted to be this
// machine's own. It thaws last, and opens the guest only after that.
func (c *configuration) apply(ctx context.Context) error {
	if err := validateConfigure(c.msg); err != nil {
		return err
	}
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"reseed", c.reseed}, {"clock", c.setClock}, {"identity", c.identify},
		{"accounts", c.settle}, {"connections", c.closeConnections}, {"thaw", c.thaw},
	} {
		begun := time.Now()
		if err := step.do(ctx); err != nil {
			return err
		}
		c.answer.StepMicros[step.name] = time.Since(begun).Microseconds()
	}
	return nil
}

// errStep says which part of Configure failed. A fault keeps its kind.
func errStep(err error, reason, what string) error {
	var known *fault.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	return fault.Wrap(err, fault.Internal, reason, "the sandbox could not %s", what)
}

func (c *configuration) reseed(context.Context) error {
	if err := c.server.kernel.Reseed(c.msg.GetEntropy()); err != nil {
		return errStep(err, "reseed_failed", "reseed")
	}
	c.answer.Reseeded = true
	return nil
}

func (c *configuration) setClock(context.Context) error {
	step, err := c.server.kernel.SetClock(time.Unix(0, c.msg.GetWallClockUnixNano()).Add(time.Since(c.received)))
	c.answer.ClockStepNano = int64(step)
	return errStep(err, "clock_failed", "set clock")
}

// identify makes the machine's names its own.
func (c *configuration) identify(context.Context) error {
	id := c.server.identity
	if c.msg.GetNewIdentity() {
		if err := id.Renew(); err != nil {
			return errStep(err, "identity_failed", "renew identity")
		}
		c.answer.NewIdentity = true
	}
	if name := c.msg.GetHostname(); name != "" {
		if err := id.SetHostname(name); err != nil {
			return errStep(err, "hostname_failed", "set hostname")
		}
	}
	if servers := c.msg.GetNameservers(); len(servers) > 0 {
		return errStep(id.SetNameservers(servers), "nameservers_failed", "set name servers")
	}
	return nil
}

// settle makes the users exist, and works out and keeps the settings of the
// new epoch. It reads no accounts that it has no question to.
func (c *configuration) settle(context.Context) error {
	accounts, msg := c.server.accounts, c.msg
	for _, u := range msg.GetUsers() {
		if err := c.server.ensure(filesystem.User{Name: u.GetName(), UID: u.GetUid(), GID: u.GetGid(), Home: u.GetHome(), Shell: u.GetShell()}); err != nil {
			return err
		}
	}
	c.next = settings{
		SandboxID: msg.GetSandboxId(), Generation: msg.GetGeneration(), Token: msg.GetAccessToken(),
		Envs: msg.GetEnvs(), DefaultUser: msg.GetDefaultUser(), DefaultDir: msg.GetDefaultWorkdir(),
	}
	if c.next.DefaultUser == "" {
		c.next.DefaultUser = rootUser
	}
	if c.next.DefaultUser != rootUser || c.next.DefaultDir != "" {
		user, err := accounts.Lookup(c.next.DefaultUser)
		if err != nil {
			return fault.Wrap(err, fault.Invalid, filesystem.ReasonUnknownUser, "the default user does not exist")
		}
		if c.next.DefaultDir != "" {
			if c.next.DefaultDir, err = filesystem.Resolve(c.next.DefaultDir, filesystem.Bases{Home: user.Home}); err != nil {
				return err
			}
		}
	}
	return errStep(c.server.state.save(c.next), "settings_failed", "keep settings")
}

// ensure makes a user exist, once: what a sandbox's owner does to it afterwards
// is theirs, and a clone need not look.
func (s *Server) ensure(want filesystem.User) error {
	known := slices.ContainsFunc(s.ensured, func(u filesystem.User) bool {
		return u.Name == want.Name && u.UID == want.UID && u.GID == want.GID && u.Home == want.Home && u.Shell == want.Shell
	})
	if known {
		return nil
	}
	if err := s.accounts.Ensure(want); err != nil {
		return fmt.Errorf("ensure user: %w", err)
	}
	if len(s.ensured) < maxUsers {
		s.ensured = append(s.ensured, want)
	}
	return nil
}

// rootUser always exists, also where no account file names it.
const rootUser = "root"

// closeConnections ends what connects this machine with others: those of the
// agent always, those of user processes where it is a new machine, for there
// they belong to the one it was made from.
func (c *configuration) closeConnections(ctx context.Context) error {
	c.server.conns.closeOthers(ctx)
	if !c.msg.GetNewIdentity() {
		return nil
	}
	n, err := c.server.kernel.CloseConnections()
	c.answer.ConnectionsClosed = uint32(n)
	return errStep(err, "connections_failed", "close old connections")
}

// thaw lets user code run and opens the guest, unless Release is to do that.
func (c *configuration) thaw(ctx context.Context) error {
	if c.msg.GetHold() {
		c.server.state.shut()
		c.server.pending = &c.next
		return nil
	}
	if err := c.server.freezer.Thaw(ctx); err != nil {
		return errStep(err, "thaw_failed", "thaw user processes")
	}
	c.server.pending = nil
	c.server.state.open(c.next)
	return nil
}
