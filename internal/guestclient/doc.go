// Package guestclient speaks the guest protocol to one guest.
//
// The host agent is its only user: one Client belongs to one incarnation of a
// VM and is closed when that VM ends. The package never decides what a VM's
// state is.
//
// The guest is not trusted. It can say anything, at any length, or nothing at
// all: messages, headers and texts are bounded, kinds of failure that only the
// host itself may claim are not taken from it, and every wait ends with the
// caller's context, a command's own timeout, or Close.
package guestclient
