// Package rpc serves the guest protocol, twice: for everybody's clients the
// Connect services process.Process, filesystem.Filesystem and
// wrenn.guest.v1.Guest with the plain HTTP endpoints /health, /metrics, /envs
// and /files, all on one port; for the host agent the part of it that the host
// needs, as frames on a port of their own, the lean channel (channel.proto).
// Both mean the same: they share admission, epochs, configuration, commands and
// files, and differ in how bytes become calls. Programs inside the guest reach
// both ports, so that both are as strict.
//
// The package owns authentication, the sealed state, and the projection of
// errors onto the wire; it is the only package of the guest that knows Connect.
// The agent wires it. It never runs a command, touches a file or asks the kernel for
// anything itself: that is done by process, filesystem and what the agent
// passes in.
//
//	         Configure                    Quiesce
//	sealed ───────────► open (token known) ───────► sealed
//	   ▲  │ failed: stays sealed     │  Configure: new token
//	   └──┘                          └──────────────► open
//
// Sealed, only GET /health, PING and Configure answer. A new machine starts sealed.
package rpc
