// Package hostclient talks to host agents: it implements control.Host over the
// host.v1 Connect protocol, and control.Fleet over a fixed list of hosts.
//
// The wiring of the control plane makes a [Fleet]; control uses it. The package
// decides nothing about sandboxes and keeps no state of them. It sets no
// timeout of its own on a call: deadlines belong to the caller, and a command
// in a guest may run for as long as it was allowed to. A peer that is gone is
// found by pings on the connection instead.
package hostclient
