// Package rpc serves the guest protocol: the Connect services process.Process,
// filesystem.Filesystem and wrenn.guest.v1.Guest, and the plain HTTP endpoints
// /health, /metrics, /envs and /files, all on one port.
//
// It owns authentication, the sealed state, and the projection of errors onto
// the wire; it is the only package of the guest that knows Connect. The agent
// wires it. It never runs a command, touches a file or asks the kernel for
// anything itself: that is done by process, filesystem and what the agent
// passes in.
//
//	         Configure                    Quiesce
//	sealed ───────────► open (token known) ───────► sealed
//	   ▲  │ failed: stays sealed     │  Configure: new token
//	   └──┘                          └──────────────► open
//
// Sealed, only GET /health and Configure answer. A new machine starts sealed.
package rpc
