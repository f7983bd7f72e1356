package main

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/network"
)

// IPv4 forwarding is a switch of the whole machine, which a host agent turns
// on. Its earlier position is kept in a file below /run: both last until the
// machine restarts.
const (
	forwardingSwitch = "/proc/sys/net/ipv4/ip_forward"
	forwardingWasOff = "/run/wrenn-forwarding-was-off"
)

// forwarding is the switch; tests have files of their own.
type forwarding struct{ position, wasOff string }

var hostForwarding = forwarding{forwardingSwitch, forwardingWasOff}

// remember records that forwarding is off, if it is. It is called before the
// host agent turns forwarding on.
func (f forwarding) remember() error {
	now, err := os.ReadFile(f.position)
	if err != nil || strings.TrimSpace(string(now)) != "0" {
		return nil // on already, or unreadable: turning it on reports that
	}
	if err := os.WriteFile(f.wasOff, nil, 0o644); err != nil {
		return fault.Wrap(err, fault.Internal, "forwarding_unknown", "it cannot be noted in %s that IPv4 forwarding was off", f.wasOff)
	}
	return nil
}

// restore turns forwarding off if it was off before the first host agent of
// this machine, and reports whether it did.
func (f forwarding) restore() (bool, error) {
	if _, err := os.Stat(f.wasOff); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err := os.WriteFile(f.position, []byte("0\n"), 0o644); err != nil {
		return false, fault.Wrap(err, fault.Internal, "forwarding_left_on", "IPv4 forwarding cannot be turned off again")
	}
	return true, os.Remove(f.wasOff)
}

// otherAgents reports whether another host agent of this machine still needs
// forwarding.
func otherAgents() bool {
	used, err := network.InUse()
	return err == nil && used
}
