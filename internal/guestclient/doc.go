// Package guestclient calls one guest over the control channel (guestwire).
//
// The host agent is its only user: one Client belongs to one run of a VM and is
// closed when that VM ends. The package never decides the state of a VM.
//
// # Guarantees
//
// The guest is not trusted: it can send anything, at any length, or nothing.
//
//  1. Frames and texts are bounded, and a text is one line without control
//     characters.
//  2. A guest cannot claim a failure that only the host may report.
//  3. A connection whose frames are out of order is not used again.
//  4. Every wait ends with the caller's context, a command's timeout, or Close.
package guestclient
