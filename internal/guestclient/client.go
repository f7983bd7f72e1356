package guestclient

import (
	"context"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/wrenn-dev/wrenn/api/gen/process"
	"github.com/wrenn-dev/wrenn/api/gen/process/processconnect"
	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1/guestv1connect"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Dialer opens a connection to the guest's port.
type Dialer func(ctx context.Context) (net.Conn, error)

// Limits on what a guest may send.
const (
	maxMessageBytes = 1 << 20
	maxHeaderBytes  = 64 << 10
	// bufferBytes is the unit of file transfers.
	bufferBytes = 128 << 10
	maxIdle     = 8
	idleTime    = 90 * time.Second
	// uploadAnswer is how long the guest may take to agree to an upload
	// before it is sent anyway.
	uploadAnswer = 5 * time.Second
)

// baseURL only fills the Host header: the dialer knows the guest.
const baseURL = "http://guest"

// Client talks to one guest over HTTP/1.1 with kept-alive connections. Its
// methods may be used from several goroutines.
//
// Invariants: after Close no connection is open and every call, stream and
// body fails at once; the token is sent with every request once it is set.
type Client struct {
	dial      Dialer
	transport *http.Transport
	process   processconnect.ProcessClient
	guest     guestv1connect.GuestClient

	// life ends with Close.
	life context.Context
	end  context.CancelFunc

	mu    sync.Mutex // protects the following
	token string
	conns map[net.Conn]struct{}
	spare net.Conn // opened by WaitReady for the request to come
}

// New returns a client of the guest behind dial. It opens nothing yet.
func New(dial Dialer) *Client {
	if dial == nil {
		panic("guestclient: nil Dialer")
	}
	c := &Client{dial: dial, conns: make(map[net.Conn]struct{})}
	c.life, c.end = context.WithCancel(context.Background())
	c.transport = &http.Transport{
		DialContext:            c.connect,
		DisableCompression:     true,
		MaxIdleConns:           maxIdle,
		MaxIdleConnsPerHost:    maxIdle,
		IdleConnTimeout:        idleTime,
		MaxResponseHeaderBytes: maxHeaderBytes,
		ExpectContinueTimeout:  uploadAnswer,
		WriteBufferSize:        bufferBytes,
		ReadBufferSize:         bufferBytes,
	}
	options := []connect.ClientOption{
		connect.WithReadMaxBytes(maxMessageBytes),
		// No compression is offered or understood.
		connect.WithAcceptCompression("gzip", nil, nil),
	}
	c.process = processconnect.NewProcessClient(c, baseURL, options...)
	c.guest = guestv1connect.NewGuestClient(c, baseURL, options...)
	return c
}

// SetToken makes every later request carry token.
func (c *Client) SetToken(token string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.token = token
}

// Close aborts every connection and stream at once. It is idempotent.
func (c *Client) Close() {
	c.end()
	c.mu.Lock()
	conns := c.conns
	c.conns = nil
	c.mu.Unlock()
	for conn := range conns {
		_ = conn.Close()
	}
	c.transport.CloseIdleConnections()
}

// Configure makes the guest this sandbox's own and opens it.
func (c *Client) Configure(ctx context.Context, req *guestv1.ConfigureRequest) (*guestv1.ConfigureResponse, error) {
	resp, err := c.guest.Configure(ctx, connect.NewRequest(req))
	if err != nil {
		return nil, c.fault(ctx, err)
	}
	return resp.Msg, nil
}

// Hold freezes the guest's processes for a snapshot of a machine that goes on.
func (c *Client) Hold(ctx context.Context) error {
	_, err := c.guest.Hold(ctx, connect.NewRequest(&guestv1.HoldRequest{}))
	return c.fault(ctx, err)
}

// Release moves the guest's wall clock by adjust, lets go of what Configure or
// Hold held, and returns the guest's wall clock as it answered.
func (c *Client) Release(ctx context.Context, adjust time.Duration) (time.Time, error) {
	resp, err := c.guest.Release(ctx, connect.NewRequest(&guestv1.ReleaseRequest{ClockAdjustNano: int64(adjust)}))
	if err != nil {
		return time.Time{}, c.fault(ctx, err)
	}
	return time.Unix(0, resp.Msg.GetWallClockUnixNano()), nil
}

// Quiesce freezes the guest's processes and seals it, before a snapshot.
func (c *Client) Quiesce(ctx context.Context) (*guestv1.QuiesceResponse, error) {
	resp, err := c.guest.Quiesce(ctx, connect.NewRequest(&guestv1.QuiesceRequest{}))
	if err != nil {
		return nil, c.fault(ctx, err)
	}
	return resp.Msg, nil
}

// Kill sends SIGKILL to the command with pid and all it started. One that has
// ended is NotFound.
func (c *Client) Kill(ctx context.Context, pid uint32) error {
	_, err := c.process.SendSignal(ctx, connect.NewRequest(&process.SendSignalRequest{
		Process: &process.ProcessSelector{Selector: &process.ProcessSelector_Pid{Pid: pid}},
		Signal:  process.Signal_SIGNAL_SIGKILL,
	}))
	return c.fault(ctx, err)
}

// inputBytes is how much input goes into one message.
const inputBytes = 64 << 10

// Input writes data to the stdin of the command with pid and closes it. It
// returns when the command has taken everything, which may be never: ctx ends
// it. A command that has closed its stdin or has ended is an error.
func (c *Client) Input(ctx context.Context, pid uint32, data []byte) error {
	of := &process.ProcessSelector{Selector: &process.ProcessSelector_Pid{Pid: pid}}
	for piece := range slices.Chunk(data, inputBytes) {
		_, err := c.process.SendInput(ctx, connect.NewRequest(&process.SendInputRequest{
			Process: of, Input: &process.ProcessInput{Input: &process.ProcessInput_Stdin{Stdin: piece}},
		}))
		if err != nil {
			return c.fault(ctx, err)
		}
	}
	_, err := c.process.CloseStdin(ctx, connect.NewRequest(&process.CloseStdinRequest{Process: of}))
	return c.fault(ctx, err)
}

// errClosed is what every call on a closed client fails with.
var errClosed = fault.New(fault.HostFailed, "guest_gone", "the sandbox's virtual machine is gone")
