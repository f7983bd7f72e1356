// Package guestwire is the wire of the control channel between host agent and
// guest: its port, its frames, and an encoding of its messages for the guest
// that uses no reflection.
//
// The channel's contract is api/proto/wrenn/guest/v1/channel.proto; a test
// holds the hand-written encoding to what protobuf makes of the same messages.
// guestclient and the guest's channel package are the only users. The package
// never opens a connection, decides who may call, or knows what a call does.
//
// Both ends read what the other, which they do not trust, has sent: a frame is
// only taken up to a limit that the reader names, and room for it is made as it
// arrives, not as it is announced.
package guestwire
