// Package instance owns one VM with the resources that it runs on: a directory,
// a network slot, a control group and the connection to the guest.
//
// An Instance has no identity of a sandbox. Package host, the only caller, creates
// an Instance for a sandbox, a warm clone or a template build, journals its durable
// facts, and moves that of a warm clone into the sandbox that takes the clone.
//
// The package declares the narrow interfaces of the network and the control
// groups, so that the host core runs on real ones and on fakes alike.
package instance
