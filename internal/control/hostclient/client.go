package hostclient

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"

	"connectrpc.com/connect"

	hostv1 "github.com/wrenn-dev/wrenn/api/gen/host/v1"
	"github.com/wrenn-dev/wrenn/api/gen/host/v1/hostv1connect"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/hostwire"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// maxMessage bounds one message from a host agent, in bytes. The largest is
// the list of its sandboxes.
const maxMessage = 64 << 20

// Client is the connection to one host agent. It is safe for concurrent use.
type Client struct {
	rpc       hostv1connect.HostServiceClient
	transport *http.Transport
	// dial connects for one tunnel; token authenticates its request and may be empty.
	dial  func(context.Context) (net.Conn, error)
	token string
}

var _ control.Host = (*Client)(nil)

// Access holds the means by which a control plane and its agents authenticate each
// other.
type Access struct {
	// Token is sent with every call, unless it is empty.
	Token string
	// Certificate says that the configuration of TLS has a certificate that
	// agents can check.
	Certificate bool
	// TLS returns the configuration for the next connection to an https
	// address. Nil is one with the machine's authorities and no certificate.
	TLS func() *tls.Config
}

// New returns a client of the agent at address: unix:///path/to/socket,
// https://host:port or, on loopback alone, http://host:port. An agent reached
// over TCP demands a token or, with TLS, a certificate; on a unix socket both
// may be missing. Nothing is connected yet. The caller closes the client.
func New(address string, access Access) (*Client, error) {
	e, err := parseAddress(address, access.TLS)
	if err != nil {
		return nil, err
	}
	if e.remote && access.Token == "" && !(e.encrypted && access.Certificate) {
		return nil, fault.New(fault.Invalid, "missing_host_token", "the host agent at %s needs a token, or https and a certificate", address)
	}
	var rt http.RoundTripper = e.transport
	if access.Token != "" {
		rt = bearer{next: rt, token: access.Token}
	}
	return &Client{
		transport: e.transport, dial: e.dial, token: access.Token,
		rpc: hostv1connect.NewHostServiceClient(&http.Client{Transport: rt}, e.baseURL,
			connect.WithReadMaxBytes(maxMessage),
			// Compression within one machine or one rack costs more than it
			// saves.
			connect.WithAcceptCompression("gzip", nil, nil),
		),
	}, nil
}

// Close closes the connections that are not in use.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Create implements control.Host.
func (c *Client) Create(ctx context.Context, ref sandbox.Ref, spec sandbox.Spec, from sandbox.SnapshotID) (control.ObservedSandbox, error) {
	res, err := c.rpc.CreateSandbox(ctx, connect.NewRequest(&hostv1.CreateSandboxRequest{
		Ref: refToProto(ref), Spec: hostwire.SpecToProto(spec), SnapshotId: string(from),
	}))
	if err != nil {
		return control.ObservedSandbox{}, faultOf(ctx, err)
	}
	return observedFromProto(res.Msg.GetSandbox()), nil
}

// Destroy implements control.Host.
func (c *Client) Destroy(ctx context.Context, ref sandbox.Ref, reason sandbox.StopReason) error {
	_, err := c.rpc.DestroySandbox(ctx, connect.NewRequest(&hostv1.DestroySandboxRequest{
		Ref: refToProto(ref), Reason: string(reason),
	}))
	return faultOf(ctx, err)
}

// Pause implements control.Host.
func (c *Client) Pause(ctx context.Context, ref sandbox.Ref) (control.ObservedSandbox, error) {
	return c.pause(ctx, &hostv1.PauseSandboxRequest{Ref: refToProto(ref)})
}

// ForcePause implements control.Host.
func (c *Client) ForcePause(ctx context.Context, ref sandbox.Ref) (control.ObservedSandbox, error) {
	return c.pause(ctx, &hostv1.PauseSandboxRequest{Ref: refToProto(ref), Force: true})
}

// PauseDisk implements control.Host.
func (c *Client) PauseDisk(ctx context.Context, ref sandbox.Ref) (control.ObservedSandbox, error) {
	if err := c.needsDiskPauses(ctx); err != nil {
		return control.ObservedSandbox{}, err
	}
	return c.pause(ctx, &hostv1.PauseSandboxRequest{Ref: refToProto(ref), DiskOnly: true})
}

func (c *Client) pause(ctx context.Context, req *hostv1.PauseSandboxRequest) (control.ObservedSandbox, error) {
	res, err := c.rpc.PauseSandbox(ctx, connect.NewRequest(req))
	if err != nil {
		return control.ObservedSandbox{}, faultOf(ctx, err)
	}
	return observedFromProto(res.Msg.GetSandbox()), nil
}

// Resume implements control.Host.
func (c *Client) Resume(ctx context.Context, ref sandbox.Ref) (control.ObservedSandbox, error) {
	return c.resume(ctx, &hostv1.ResumeSandboxRequest{Ref: refToProto(ref)})
}

// ResumeForUse implements control.Host.
func (c *Client) ResumeForUse(ctx context.Context, ref sandbox.Ref) (control.ObservedSandbox, error) {
	return c.resume(ctx, &hostv1.ResumeSandboxRequest{Ref: refToProto(ref), ForUse: true})
}

// Reboot implements control.Host.
func (c *Client) Reboot(ctx context.Context, ref sandbox.Ref) (control.ObservedSandbox, error) {
	if err := c.needsDiskPauses(ctx); err != nil {
		return control.ObservedSandbox{}, err
	}
	return c.resume(ctx, &hostv1.ResumeSandboxRequest{Ref: refToProto(ref), Reboot: true})
}

// needsDiskPauses fails if the agent is of an earlier version, which would pause with
// memory, or restore it.
func (c *Client) needsDiskPauses(ctx context.Context) error {
	info, err := c.Info(ctx)
	if err == nil && !info.DiskPauses {
		return control.ErrDiskPauseUnsupported()
	}
	return err
}

func (c *Client) resume(ctx context.Context, req *hostv1.ResumeSandboxRequest) (control.ObservedSandbox, error) {
	res, err := c.rpc.ResumeSandbox(ctx, connect.NewRequest(req))
	if err != nil {
		return control.ObservedSandbox{}, faultOf(ctx, err)
	}
	return observedFromProto(res.Msg.GetSandbox()), nil
}

// SetTimeouts implements control.Host.
func (c *Client) SetTimeouts(ctx context.Context, ref sandbox.Ref, t control.TimeoutChange) (control.ObservedSandbox, error) {
	res, err := c.rpc.SetTimeouts(ctx, connect.NewRequest(timeoutsToProto(ref, t)))
	if err != nil {
		return control.ObservedSandbox{}, faultOf(ctx, err)
	}
	return observedFromProto(res.Msg.GetSandbox()), nil
}

// SetEgress implements control.Host.
func (c *Client) SetEgress(ctx context.Context, ref sandbox.Ref, limits sandbox.Egress) (control.ObservedSandbox, error) {
	deny, allow := limits.Strings()
	res, err := c.rpc.SetEgress(ctx, connect.NewRequest(&hostv1.SetEgressRequest{
		Ref: refToProto(ref), EgressDeny: deny, EgressAllow: allow,
	}))
	if err != nil {
		return control.ObservedSandbox{}, faultOf(ctx, err)
	}
	return observedFromProto(res.Msg.GetSandbox()), nil
}

// Sandbox implements control.Host. An agent older than GetSandbox is asked for
// all its sandboxes instead.
func (c *Client) Sandbox(ctx context.Context, id sandbox.ID) (*control.ObservedSandbox, error) {
	res, err := c.rpc.GetSandbox(ctx, connect.NewRequest(&hostv1.GetSandboxRequest{Id: string(id)}))
	switch {
	case connect.CodeOf(err) == connect.CodeUnimplemented:
		return c.findInList(ctx, id)
	case err != nil:
		err = faultOf(ctx, err)
		if fault.ReasonOf(err) == control.ReasonSandboxNotFound {
			return nil, nil
		}
		return nil, err
	}
	observed := observedFromProto(res.Msg.GetSandbox())
	if observed.Ref.ID != id {
		return nil, broken("it describes another sandbox")
	}
	return &observed, nil
}

func (c *Client) findInList(ctx context.Context, id sandbox.ID) (*control.ObservedSandbox, error) {
	observed, err := c.Sandboxes(ctx)
	if err != nil {
		return nil, err
	}
	for _, v := range observed {
		if v.Ref.ID == id {
			return &v, nil
		}
	}
	return nil, nil
}

// Sandboxes implements control.Host.
func (c *Client) Sandboxes(ctx context.Context) ([]control.ObservedSandbox, error) {
	res, err := c.rpc.ListSandboxes(ctx, connect.NewRequest(&hostv1.ListSandboxesRequest{}))
	if err != nil {
		return nil, faultOf(ctx, err)
	}
	observed := make([]control.ObservedSandbox, 0, len(res.Msg.GetSandboxes()))
	for _, s := range res.Msg.GetSandboxes() {
		observed = append(observed, observedFromProto(s))
	}
	return observed, nil
}

// Watch implements control.Host.
func (c *Client) Watch(ctx context.Context, ready func(), on func(control.ObservedSandbox)) error {
	stream, err := c.rpc.WatchEvents(ctx, connect.NewRequest(&hostv1.WatchEventsRequest{}))
	if err != nil {
		return faultOf(ctx, err)
	}
	defer stream.Close()
	for stream.Receive() {
		switch e := stream.Msg().GetEvent().(type) {
		case *hostv1.WatchEventsResponse_Hello_:
			ready()
		case *hostv1.WatchEventsResponse_Sandbox:
			on(observedFromProto(e.Sandbox))
		}
	}
	if err := stream.Err(); err != nil {
		return faultOf(ctx, err)
	}
	return fault.New(fault.HostFailed, "events_ended", "the host agent ended its stream of events")
}

// Info asks for the host's capacity, features and versions.
func (c *Client) Info(ctx context.Context) (control.HostInfo, error) {
	res, err := c.rpc.GetHost(ctx, connect.NewRequest(&hostv1.GetHostRequest{}))
	if err != nil {
		return control.HostInfo{}, faultOf(ctx, err)
	}
	return infoFromProto(res.Msg), nil
}
