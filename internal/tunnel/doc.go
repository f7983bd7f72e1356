// Package tunnel carries the bytes of one TCP connection to a port of a guest over
// a connection between control plane and host agent.
//
// It owns the request for a tunnel and the frames on it. The control plane's host
// client opens a tunnel with [Dial]; the host agent answers with [Accept] and copies
// with [Carry], as the guest's agent does between the host agent and a program that
// listens on a loopback address. The package never decides who may open a tunnel, and it never looks
// at the bytes.
//
// # Why a connection of its own
//
// The other calls of host.v1 share one HTTP/2 connection. A guest that reads nothing
// would fill the flow-control window that all streams of that connection share, and
// stop the commands for other sandboxes. A tunnel therefore is an HTTP/1.1 request
// with "Upgrade: wrenn-tunnel" on a TCP or unix connection of its own, on the same
// listener and with the same token or certificate. The kernel's buffers and one buffer
// (type Buffers) bound it in each direction, and a byte is copied once.
//
// # Frames
//
// A unix socket cannot say whether its peer ended or aborted a stream. So the bytes
// of each direction travel in frames: a length of four bytes, big-endian, then that
// many bytes, at most [maxFrame]. A frame of length 0 ends the direction, as FIN does
// in TCP. A connection that closes without it was aborted.
//
//	open ── end frame sent ──► only receiving ──┐
//	  │                                         ├─ both end frames: closed cleanly
//	  └──── end frame received ► only sending ──┘
//	anything else that closes the connection: aborted
//
// # Guarantees
//
//  1. A reader gets io.EOF only after the peer's end frame; a connection that breaks
//     is io.ErrUnexpectedEOF or the error of the connection (TestAbortIsNoEnd).
//  2. A direction that has ended leaves the other one open (TestHalfClose).
//  3. A peer that breaks the protocol is an error and costs no memory
//     (TestFrameTooLong).
package tunnel
