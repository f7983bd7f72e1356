// Package guestwire encodes and decodes the control channel between host agent and
// guest: its port, its frames, and its messages for the guest, without reflection.
//
// The channel is specified in api/proto/wrenn/guest/v1/channel.proto. A test
// compares the hand-written encoding with that of the protobuf library. The users
// are guestclient and the guest's channel package. The package never opens a
// connection, authenticates a caller, or acts on a call.
//
// Neither end trusts the other. The reader sets a limit on the size of each frame,
// and allocates memory as bytes arrive and not as they are announced.
package guestwire
