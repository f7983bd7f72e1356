package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/client"
)

func (a *App) portForwardCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "port-forward ID PORT[:LOCAL]...",
		Short: "Connect ports of this machine with ports of a sandbox",
		Long: "Listen on 127.0.0.1 and connect each connection with a port of a sandbox, until interrupted. LOCAL is the port\n" +
			"here, the same as PORT if it is left out; 0 chooses a free one. Each address is printed once it is open.\n\n" +
			"The bytes pass unchanged, so that every protocol over TCP works.",
		Example: "  wrenn port-forward $id 3000\n  wrenn port-forward $id 5432:15432 80:0",
		Args:    args(2, -1, "the ID of a sandbox and ports"),
	}
	cmd.ValidArgsFunction = a.completeIDs(1, live...)
	cmd.RunE = func(cmd *cobra.Command, argv []string) error {
		var pairs []portPair
		for _, arg := range argv[1:] {
			pair, err := parsePortPair(arg)
			if err != nil {
				return Usage(cmd, err)
			}
			pairs = append(pairs, pair)
		}
		id, err := a.sandboxID(cmd.Context(), argv[0])
		if err != nil {
			return err
		}
		return a.forwardPorts(cmd.Context(), id, pairs)
	}
	return cmd
}

// portPair is a port of a sandbox and the local port that stands for it, or 0.
type portPair struct{ remote, local uint16 }

func parsePortPair(s string) (portPair, error) {
	remote, local, given := strings.Cut(s, ":")
	port, err := strconv.ParseUint(remote, 10, 16)
	p := portPair{remote: uint16(port), local: uint16(port)}
	if given && err == nil {
		port, err = strconv.ParseUint(local, 10, 16)
		p.local = uint16(port)
	}
	if err != nil || p.remote == 0 {
		return p, fmt.Errorf("%q is not PORT or PORT:LOCAL, with ports from 1 to 65535", s)
	}
	return p, nil
}

// forwardPorts serves pairs until ctx ends. It opens all of them, or none.
func (a *App) forwardPorts(ctx context.Context, id string, pairs []portPair) error {
	c := a.Client()
	if _, err := c.Get(ctx, id); err != nil {
		return err
	}
	var listeners []net.Listener
	defer func() {
		for _, l := range listeners {
			_ = l.Close()
		}
	}()
	for _, p := range pairs {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(p.local))))
		if err != nil {
			return &Failure{Message: fmt.Sprintf("port %d of this machine cannot be used: %v", p.local, err),
				Hint: fmt.Sprintf("choose another with %d:LOCAL", p.remote)}
		}
		listeners = append(listeners, l)
	}
	var serving sync.WaitGroup
	for i, l := range listeners {
		remote := pairs[i].remote
		if _, err := fmt.Fprintf(a.io.Out, "%s -> %d\n", l.Addr(), remote); err != nil {
			return err
		}
		serving.Go(func() { a.forwardPort(ctx, c, id, l, remote) })
	}
	<-ctx.Done()
	for _, l := range listeners {
		_ = l.Close()
	}
	serving.Wait()
	return ctx.Err()
}

// forwardPort serves the connections of l until it is closed and they have ended.
func (a *App) forwardPort(ctx context.Context, c *client.Client, id string, l net.Listener, port uint16) {
	var open sync.WaitGroup
	defer open.Wait()
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		open.Go(func() {
			if err := forwardConn(ctx, c, id, conn.(*net.TCPConn), port); err != nil && !errors.Is(err, context.Canceled) {
				a.note("port %d: %v", port, err)
			}
		})
	}
}

// forwardConn connects local with the port. It aborts both when one breaks or ctx ends,
// so that neither looks as if it had ended.
func forwardConn(ctx context.Context, c *client.Client, id string, local *net.TCPConn, port uint16) error {
	remote, err := c.DialPort(ctx, id, port)
	if err != nil {
		_ = local.SetLinger(0)
		_ = local.Close()
		return err
	}
	var once sync.Once
	var first error
	end := func(err error) {
		once.Do(func() {
			if first = err; err != nil {
				_ = local.SetLinger(0)
			}
			_, _ = local.Close(), remote.Close()
		})
	}
	stop := context.AfterFunc(ctx, func() { end(ctx.Err()) })
	defer stop()
	var directions sync.WaitGroup
	directions.Go(func() { passOn(remote, local, end) })
	directions.Go(func() { passOn(local, remote, end) })
	directions.Wait()
	end(nil)
	return first
}

// passOn copies one direction to its end; broken is called with an error in it.
func passOn(to client.PortConn, from io.Reader, broken func(error)) {
	_, err := io.Copy(to, struct{ io.Reader }{from})
	if err == nil {
		err = to.CloseWrite()
	}
	if err != nil && !errors.Is(err, net.ErrClosed) {
		broken(fmt.Errorf("the connection broke: %w", err))
	}
}
