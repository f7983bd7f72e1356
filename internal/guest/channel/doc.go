// Package channel serves the control channel: the calls that the host agent
// makes, as frames on a port of its own (guestwire, channel.proto).
//
// It turns frames into calls of an agent.Agent and owns nothing but its
// connections. Programs inside the guest reach the port too, so that it trusts
// its peer no more than the public protocol does.
//
// The path of a call is short on purpose: no HTTP, no reflection, and one
// goroutine for each connection. Under software emulation a clone has to
// translate all code that it runs for the first time.
package channel
