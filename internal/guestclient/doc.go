// Package guestclient speaks to one guest over the control channel (guestwire).
//
// The host agent is its only user: one Client belongs to one incarnation of a
// VM and is closed when that VM ends. The package never decides what a VM's
// state is.
//
// The guest is not trusted. It can say anything, at any length, or nothing at
// all: frames and texts are bounded, kinds of failure that only the host itself
// may claim are not taken from it, a connection whose frames are out of order
// is not used again, and every wait ends with the caller's context, a command's
// own timeout, or Close.
package guestclient
