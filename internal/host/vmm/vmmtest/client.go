package vmmtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/api/gen/process"
	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/guestclient"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

// Client drives one real guest through the protocol of its agent.
type Client struct {
	*guestclient.Client
	exec time.Duration
}

// NewClient returns the client of the guest that dial reaches. exec bounds each
// command.
func NewClient(t testing.TB, exec time.Duration, dial func(ctx context.Context, port uint16) (net.Conn, error)) *Client {
	c := &Client{exec: exec, Client: guestclient.New(dial)}
	t.Cleanup(c.Close)
	return c
}

// Guest returns the surroundings of the guest that cfg describes.
func (c *Client) Guest(cfg vmm.Config) Guest {
	return Guest{Config: cfg, Ready: c.Ready, Count: c.Count, Freeze: c.Freeze, Thaw: c.Identify}
}

// Ready waits for the guest's agent and configures it.
func (c *Client) Ready(ctx context.Context) error {
	if err := c.WaitReady(ctx); err != nil {
		return err
	}
	return c.Identify(ctx)
}

// Identify gives the guest an identity, as a host does after a start and after a
// restore. It continues the user processes.
func (c *Client) Identify(ctx context.Context) error {
	entropy := make([]byte, 64)
	_, _ = rand.Read(entropy)
	res, err := c.Configure(ctx, &guestv1.ConfigureRequest{
		SandboxId: "test", Generation: 1, WallClockUnixNano: time.Now().UnixNano(),
		Entropy: entropy, Hostname: "test", AccessToken: "secret", DefaultUser: "root",
	})
	c.SetToken("secret")
	if err == nil && !res.GetReseeded() {
		err = errors.New("not reseeded")
	}
	return err
}

// Freeze stops the user processes.
func (c *Client) Freeze(ctx context.Context) error {
	_, err := c.Quiesce(ctx)
	return err
}

// counter starts, once, a process that counts in a file, and prints the count.
const counter = `[ -e /tmp/count ] || { echo 0 >/tmp/count
setsid sh -c 'n=0; while :; do n=$((n+1)); echo $n >/tmp/count.new; mv /tmp/count.new /tmp/count; sleep 0.05; done' >/dev/null 2>&1 & }
cat /tmp/count`

// Count is Guest.Count.
func (c *Client) Count(ctx context.Context) (int, error) {
	out, err := c.Shell(ctx, counter)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(out))
}

// Shell runs a script in the guest as root and returns its standard output. An exit
// code other than 0 is an error.
func (c *Client) Shell(ctx context.Context, script string) (string, error) {
	stdin := false
	stream, err := c.Start(ctx, &process.StartRequest{
		Process: &process.ProcessConfig{Cmd: "/bin/sh", Args: []string{"-c", script}}, Stdin: &stdin,
	}, guestclient.StartOptions{Timeout: c.exec})
	if err != nil {
		return "", err
	}
	defer stream.Close()
	var out strings.Builder
	for {
		event, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			return out.String(), nil
		}
		if err != nil {
			return "", err
		}
		out.Write(event.GetData().GetStdout())
		if end := event.GetEnd(); end != nil && end.GetExitCode() != 0 {
			return out.String(), fmt.Errorf("exit code %d", end.GetExitCode())
		}
	}
}
