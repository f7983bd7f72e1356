package main

import (
	"errors"
	"io"
	"net"

	"github.com/wrenn-dev/wrenn/test/runtimes/waits"
)

// waitSocket is where a process whose calls wait answers, once.
const waitSocket = "/run/waits.sock"

// wait makes the calls of package waits. The first connection ends them and gets their
// results.
func wait() error {
	all, err := waits.Start()
	if err != nil {
		return err
	}
	l, err := net.Listen("unix", waitSocket)
	if err != nil {
		return err
	}
	c, err := l.Accept()
	if err != nil {
		return err
	}
	_, err = io.WriteString(c, all.End())
	return errors.Join(err, c.Close(), l.Close())
}
