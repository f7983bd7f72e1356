// Package rest owns the REST API: routes, JSON, the one error shape, access,
// request ids, the access log, and the API's documentation pages.
//
// The process that wires the control plane builds a handler with [New] and runs
// it with [Serve]. The package translates between HTTP and [control.API] and
// decides nothing about sandboxes itself; it never talks to a database or a
// host. The contract is api/openapi.yaml: tests compare the two.
//
// # How a request passes
//
//	request id, access log ─► panics ─► access ─► handler ─► control.API
//	                                                 │
//	                             every failure ─► server.fail: one shape
//
// The package holds no body in memory as a whole, except for JSON and collected
// command output, which are bounded. Neither reading nor writing has a total
// time limit, since commands and files may take as long as they like; a peer
// that moves no byte for [Config.StallTimeout] is cut off.
package rest
