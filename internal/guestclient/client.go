package guestclient

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/fault/faultrpc"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
)

// Dialer opens a connection to a TCP port of the guest.
type Dialer func(ctx context.Context, port uint16) (net.Conn, error)

// Limits on the frames of a guest and on the resources that a client keeps.
const (
	maxMessageBytes = 1 << 20
	// bufferBytes is the size of the pieces of file transfers.
	bufferBytes = 256 << 10
	// maxIdle is the number of idle connections.
	maxIdle = 8
	// idleTime is shorter than the time after which the guest closes an idle
	// connection.
	idleTime = 9 * time.Minute
)

// Client talks to one guest. A connection carries one call at a time and is
// reused for the next. Its methods may be used from several goroutines.
//
// Invariants: after Close no connection is open and every call, stream and
// body fails at once; the token is sent with every call once it is set; an idle
// connection has nothing unread.
type Client struct {
	dial Dialer

	// life ends with Close.
	life context.Context
	end  context.CancelFunc
	// stall bounds how long a transfer waits for the guest to move the next bytes.
	stall time.Duration
	born  time.Time
	// heard is the time of the last bytes from the guest, in nanoseconds after
	// born.
	heard atomic.Int64

	mu    sync.Mutex // protects the following
	token string
	conns map[*conn]struct{} // nil after Close
	idle  []*conn            // newest last
	ports map[*Port]struct{} // nil after Close
}

// New returns a client of the guest that dial reaches. It does not connect yet.
func New(dial Dialer) *Client {
	if dial == nil {
		panic("guestclient: nil Dialer")
	}
	c := &Client{dial: dial, stall: stallLimit, born: time.Now(), conns: make(map[*conn]struct{}), ports: make(map[*Port]struct{})}
	c.life, c.end = context.WithCancel(context.Background())
	return c
}

// stallLimit is how long a transfer waits for the guest to move the next bytes.
const stallLimit = time.Minute

// LastHeard returns the time of the last bytes from the guest, or the time of New
// if there were none.
func (c *Client) LastHeard() time.Time { return c.born.Add(time.Duration(c.heard.Load())) }

// SetToken makes every later call carry token.
func (c *Client) SetToken(token string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.token = token
}

// Close aborts every connection and stream at once. It is idempotent.
func (c *Client) Close() {
	c.end()
	c.mu.Lock()
	conns, ports := c.conns, c.ports
	c.conns, c.idle, c.ports = nil, nil, nil
	c.mu.Unlock()
	for conn := range conns {
		_ = conn.Conn.Close()
	}
	for port := range ports {
		port.abort()
	}
}

// WaitReady returns once a booting guest answers, or when ctx ends with Timeout
// guest_not_ready.
func (c *Client) WaitReady(ctx context.Context) error { return c.awaitAnswer(ctx, bootDialTimeout) }

// Ping returns nil once a guest that has run before answers. It retries until ctx
// ends, and then fails with Timeout guest_unresponsive. It needs no token, and a
// sealed guest answers too.
func (c *Client) Ping(ctx context.Context) error {
	err := c.awaitAnswer(ctx, restoredDialTimeout)
	if err != nil && ctx.Err() != nil {
		return fault.Wrap(err, fault.Timeout, ReasonUnresponsive, "the sandbox does not answer")
	}
	return err
}

func (c *Client) awaitAnswer(ctx context.Context, dialTimeout time.Duration) error {
	x, err := c.reach(ctx, dialTimeout)
	if err != nil {
		return err
	}
	x.finish(true)
	return nil
}

// Configure gives the guest the sandbox's identity and opens it. It retries the
// connection until ctx ends, so that the caller may call it as soon as the VM runs.
// It sets req.WallClockUnixNano to the time of sending.
func (c *Client) Configure(ctx context.Context, req *guestv1.ConfigureRequest) (*guestv1.ConfigureResponse, error) {
	// On an idle connection the guest has answered before, which saves the ping.
	// If the guest has closed it meanwhile, try again: Configure is idempotent.
	if idle := c.takeIdle(); idle != nil {
		resp, err := c.configure(c.exchange(ctx, idle), req)
		if err == nil || fault.ReasonOf(err) != faultrpc.ReasonUnreachable {
			return resp, err
		}
	}
	x, err := c.reach(ctx, restoredDialTimeout)
	if err != nil {
		return nil, err
	}
	return c.configure(x, req)
}

func (c *Client) configure(x *exchange, req *guestv1.ConfigureRequest) (*guestv1.ConfigureResponse, error) {
	req.WallClockUnixNano = time.Now().UnixNano()
	resp := &guestv1.ConfigureResponse{}
	if err := x.roundTrip(guestwire.Configure, req, resp); err != nil {
		return nil, err
	}
	// The guest has closed every connection but this one.
	c.dropIdle()
	x.finish(true)
	return resp, nil
}

// Hold freezes the guest's processes for a snapshot after which the VM continues.
// Release ends it.
func (c *Client) Hold(ctx context.Context) error {
	_, err := c.hold(ctx, &guestv1.HoldRequest{})
	return err
}

// HoldToDisk is Hold for a copy of the disk that is used without the memory: the guest then
// writes its file systems back. synced is false from a guest agent of an earlier version,
// which does not.
func (c *Client) HoldToDisk(ctx context.Context) (synced bool, err error) {
	resp, err := c.hold(ctx, &guestv1.HoldRequest{SyncDisk: true})
	return resp.GetSynced(), err
}

func (c *Client) hold(ctx context.Context, req *guestv1.HoldRequest) (*guestv1.HoldResponse, error) {
	x, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	resp := &guestv1.HoldResponse{}
	if err := x.roundTrip(guestwire.Hold, req, resp); err != nil {
		return nil, err
	}
	x.finish(true)
	return resp, nil
}

// Release moves the guest's wall clock by adjust, thaws the processes that Configure
// or Hold froze, and returns the guest's wall clock at the time of its answer.
func (c *Client) Release(ctx context.Context, adjust time.Duration) (time.Time, error) {
	x, err := c.open(ctx)
	if err != nil {
		return time.Time{}, err
	}
	resp := &guestv1.ReleaseResponse{}
	if err := x.roundTrip(guestwire.Release, &guestv1.ReleaseRequest{ClockAdjustNano: int64(adjust)}, resp); err != nil {
		return time.Time{}, err
	}
	x.finish(true)
	return time.Unix(0, resp.GetWallClockUnixNano()), nil
}

// Quiesce freezes the guest's processes and seals it, before a snapshot of
// memory and disk together.
func (c *Client) Quiesce(ctx context.Context) (*guestv1.QuiesceResponse, error) {
	return c.quiesce(ctx, &guestv1.QuiesceRequest{})
}

// QuiesceToDisk is Quiesce for a snapshot whose disk will be used without its
// memory: the guest writes its file systems back, and lists its frozen processes. A guest
// that lists other processes than there may be is HostFailed guest_failed.
func (c *Client) QuiesceToDisk(ctx context.Context) (*guestv1.QuiesceResponse, error) {
	return c.quiesce(ctx, &guestv1.QuiesceRequest{SyncDisk: true})
}

func (c *Client) quiesce(ctx context.Context, req *guestv1.QuiesceRequest) (*guestv1.QuiesceResponse, error) {
	resp := &guestv1.QuiesceResponse{}
	x, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	if err := x.call(guestwire.Quiesce, req); err != nil {
		return nil, err
	}
	if err := x.processes(quiesceBounds(), resp); err != nil {
		return nil, err
	}
	if !plainProcesses(resp.GetProcesses()) {
		return nil, x.fail(errDisorder)
	}
	c.dropIdle()
	x.hangUp()
	return resp, nil
}

// Kill sends SIGKILL to the command with pid and to its descendants. An ended
// command is NotFound.
func (c *Client) Kill(ctx context.Context, pid uint32) error {
	x, err := c.open(ctx)
	if err != nil {
		return err
	}
	if err := x.roundTrip(guestwire.Kill, &guestv1.KillCall{Pid: pid}, nil); err != nil {
		return err
	}
	x.finish(true)
	return nil
}

// roundTrip sends a call and decodes its answer into resp, which is nil for an
// answer without a message. On error it has finished the exchange.
func (x *exchange) roundTrip(t guestwire.Type, req, resp proto.Message) error {
	if err := x.call(t, req); err != nil {
		return err
	}
	return x.answer(resp)
}

// errClosed is the failure of every call on a closed client.
var errClosed = fault.New(fault.HostFailed, "guest_gone", "the sandbox's VM has ended")
