// Package e2b serves the control API in the dialect of E2B's clients, at paths beside
// /v1: /sandboxes, /v2/sandboxes, /snapshots, /templates and a few others.
//
// It translates between that dialect and [control.API] with [templates.API], and decides
// nothing about sandboxes and builds itself. It owns no state but the last samples of
// metrics. Its types are its own, so that the REST API can change without it; no package
// but the one that wires the server imports it.
// docs/e2b.md lists the supported calls.
//
// # Two generations
//
// Clients before 2.51 call /sandboxes, newer ones /v2/sandboxes. Both are served for
// good. They differ in the default of one field, the timeout of a create.
//
// # Clocks
//
// The dialect has one clock: the time at which a sandbox ends or is paused. It is our
// lifetime clock. The idle clock of such sandboxes is off.
//
// # Builds
//
// The steps of a build become a plan of one stage. The files of its COPY steps are
// uploaded before, by links that carry a signature in place of a key.
//
// # Errors
//
// A fault becomes {"code", "message", "error_code"}, where code is the HTTP status as a
// number. Fields that would change nothing here are refused with 400, unless the
// documentation says that they are ignored.
package e2b
