// Package escape tries the ways out of the confinement of a VM's process, for tests
// of that confinement.
//
// It owns the list of attempts, and the World around them: a host with another sandbox
// whose process has the same user id. A test runs a player where an escaped VM would
// stand, and one as root outside, which proves which attempts can succeed at all. The
// tests of the jail and of the gVisor driver call it.
package escape
