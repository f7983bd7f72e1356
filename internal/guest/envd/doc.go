// Package envd serves the guest's public protocol, as clients of E2B sandboxes
// speak it: the Connect services process.Process and filesystem.Filesystem, and the HTTP
// endpoints /health, /metrics, /envs and /files, all on one port.
//
// It turns requests into calls of an agent.Agent, checks the signatures of file
// URLs, and projects faults onto HTTP and Connect. It is the only package of the
// guest that knows Connect. It never runs a command or changes the guest
// itself.
//
// The host agent uses the control channel instead (package channel). Port 49983
// is for other people's clients, which reach it as every port of a sandbox through
// the control plane, and for programs inside the guest. Everything but /health and
// answers to OPTIONS needs the sandbox's access token, or a signature made with it. A
// guest that was given no token refuses the rest: the control plane lets everyone reach
// this port.
package envd
