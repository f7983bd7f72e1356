// Package rpc serves host.v1 over Connect, and tunnels to ports of guests beside it
// (package tunnel): it translates between the wire and the host manager and decides
// nothing.
//
// The control plane's host client is the only caller. On one machine the
// service listens on a unix socket that root alone can reach; over TCP it needs
// a token.
package rpc
