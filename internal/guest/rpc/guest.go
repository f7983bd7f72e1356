package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"connectrpc.com/connect"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/fault/faultrpc"
	"github.com/wrenn-dev/wrenn/internal/guest/filesystem"
)

// guestService is wrenn.guest.v1.Guest. Its calls run one at a time.
type guestService struct {
	server *Server
	turn   chan struct{}

	// pending are the settings of a Configure that holds, until Release. It is
	// owned by whoever has the turn.
	pending *settings
}

func newGuestService(s *Server) *guestService {
	return &guestService{server: s, turn: make(chan struct{}, 1)}
}

// exclusive waits for the other call to end.
func (g *guestService) exclusive(ctx context.Context) (release func(), err error) {
	select {
	case g.turn <- struct{}{}:
		return func() { <-g.turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Configure implements wrenn.guest.v1.Guest.
func (g *guestService) Configure(ctx context.Context, req *connect.Request[guestv1.ConfigureRequest]) (*connect.Response[guestv1.ConfigureResponse], error) {
	release, err := g.exclusive(ctx)
	if err != nil {
		return nil, faultrpc.ToConnect(err)
	}
	defer release()
	resp, err := g.configure(ctx, req.Msg, req.Header().Get(headerToken))
	if err != nil {
		g.server.log.Error("configure failed", slog.Any("error", err))
	}
	return answer(resp, err)
}

// configure reseeds first: nothing that is drawn before can be trusted to be
// this machine's own. It thaws last, and opens the guest only after that.
func (g *guestService) configure(ctx context.Context, msg *guestv1.ConfigureRequest, token string) (*guestv1.ConfigureResponse, error) {
	s := g.server
	if e := s.state.enter(); e != nil {
		// Checked again inside the turn: the token may have changed meanwhile.
		e.leave()
		if !e.admits(token) {
			return nil, errAccess("the access token is wrong")
		}
	}
	received := time.Now()
	if err := validateConfigure(msg); err != nil {
		return nil, err
	}
	if err := s.kernel.Reseed(msg.GetEntropy()); err != nil {
		return nil, errStep(err, "reseed_failed", "reseed")
	}
	wall := time.Unix(0, msg.GetWallClockUnixNano()).Add(time.Since(received))
	step, err := s.kernel.SetClock(wall)
	if err != nil {
		return nil, errStep(err, "clock_failed", "set clock")
	}
	if err := g.identify(msg); err != nil {
		return nil, err
	}
	next, err := g.settle(msg)
	if err != nil {
		return nil, err
	}
	s.conns.closeOthers(ctx)
	if err := s.state.save(next); err != nil {
		return nil, errStep(err, "settings_failed", "keep settings")
	}
	if msg.GetHold() {
		s.state.shut()
		g.pending = &next
	} else if err := g.open(ctx, next); err != nil {
		return nil, err
	}
	s.log.Info("configured", slog.String("sandbox", next.SandboxID), slog.Uint64("generation", next.Generation),
		slog.Duration("clock_step", step))
	return &guestv1.ConfigureResponse{
		ClockStepNano: int64(step), Reseeded: true, GuestVersion: s.version, KernelRelease: s.kernel.Release(),
		NewIdentity: msg.GetNewIdentity(), WallClockUnixNano: time.Now().UnixNano(),
	}, nil
}

// errStep says which part of Configure failed. A fault keeps its kind.
func errStep(err error, reason, what string) error {
	var known *fault.Error
	if errors.As(err, &known) {
		return err
	}
	return fault.Wrap(err, fault.Internal, reason, "the sandbox could not %s", what)
}

// identify makes the machine's names its own.
func (g *guestService) identify(msg *guestv1.ConfigureRequest) error {
	id := g.server.identity
	if msg.GetNewIdentity() {
		if err := id.Renew(); err != nil {
			return errStep(err, "identity_failed", "renew identity")
		}
	}
	if name := msg.GetHostname(); name != "" {
		if err := id.SetHostname(name); err != nil {
			return errStep(err, "hostname_failed", "set hostname")
		}
	}
	if servers := msg.GetNameservers(); len(servers) > 0 {
		if err := id.SetNameservers(servers); err != nil {
			return errStep(err, "nameservers_failed", "set name servers")
		}
	}
	return nil
}

// settle makes the users exist and returns the settings of the new epoch.
func (g *guestService) settle(msg *guestv1.ConfigureRequest) (settings, error) {
	accounts := g.server.accounts
	for _, u := range msg.GetUsers() {
		want := filesystem.User{Name: u.GetName(), UID: u.GetUid(), GID: u.GetGid(), Home: u.GetHome(), Shell: u.GetShell()}
		if err := accounts.Ensure(want); err != nil {
			return settings{}, fmt.Errorf("ensure user: %w", err)
		}
	}
	next := settings{
		SandboxID: msg.GetSandboxId(), Generation: msg.GetGeneration(), Token: msg.GetAccessToken(),
		Envs: msg.GetEnvs(), DefaultUser: msg.GetDefaultUser(), DefaultDir: msg.GetDefaultWorkdir(),
	}
	if next.DefaultUser == "" {
		next.DefaultUser = "root"
	}
	user, err := accounts.Lookup(next.DefaultUser)
	if err != nil {
		return settings{}, fault.Wrap(err, fault.Invalid, filesystem.ReasonUnknownUser, "the default user does not exist")
	}
	if next.DefaultDir != "" {
		next.DefaultDir, err = filesystem.Resolve(next.DefaultDir, filesystem.Bases{Home: user.Home})
	}
	return next, err
}

// quiesceTimeout bounds what Quiesce waits for: requests and processes.
const quiesceTimeout = 10 * time.Second

// Quiesce implements wrenn.guest.v1.Guest. If it fails the guest is open as
// before; requests that were under way have been cut off all the same.
func (g *guestService) Quiesce(ctx context.Context, _ *connect.Request[guestv1.QuiesceRequest]) (*connect.Response[guestv1.QuiesceResponse], error) {
	ctx, cancel := context.WithTimeout(ctx, quiesceTimeout)
	defer cancel()
	release, err := g.exclusive(ctx)
	if err != nil {
		return nil, faultrpc.ToConnect(err)
	}
	defer release()
	s := g.server
	kept, open, err := s.state.seal(ctx)
	if !open {
		return nil, faultrpc.ToConnect(errSealed)
	}
	frozen := 0
	if err == nil {
		frozen, err = g.freeze(ctx)
	}
	if err != nil {
		s.log.Error("quiesce failed", slog.Any("error", err))
		s.state.open(kept)
		return nil, faultrpc.ToConnect(err)
	}
	s.conns.closeOthers(ctx)
	return connect.NewResponse(&guestv1.QuiesceResponse{Frozen: uint32(frozen)}), nil
}

// freeze stops user processes, writes file systems back and forgets the
// token. On error user processes go on.
func (g *guestService) freeze(ctx context.Context) (frozen int, err error) {
	s := g.server
	frozen, err = s.freezer.Freeze(ctx)
	if err == nil {
		err = s.kernel.Sync()
	}
	if err == nil {
		err = s.state.vault.Save(nil)
	}
	if err == nil {
		return frozen, nil
	}
	if thawErr := s.freezer.Thaw(context.WithoutCancel(ctx)); thawErr != nil {
		err = fmt.Errorf("%w (and thaw: %w)", err, thawErr)
	}
	return 0, err
}
