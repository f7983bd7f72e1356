package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// resolveTimeout bounds the lookup of a host name in --listen.
const resolveTimeout = 5 * time.Second

// onlyLoopback reports whether host:port can be reached from this machine
// alone. An empty host is every address of the machine.
func onlyLoopback(hostport string) (bool, error) {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		return false, err
	}
	if host == "" {
		return false, nil
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().IsLoopback(), nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), resolveTimeout)
	defer cancel()
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return false, fmt.Errorf("%s names no address of this machine: %w", host, err)
	}
	for _, ip := range found {
		if !ip.Unmap().IsLoopback() {
			return false, nil
		}
	}
	return true, nil
}
