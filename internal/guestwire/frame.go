package guestwire

import (
	"encoding/binary"
	"errors"

	"google.golang.org/protobuf/encoding/protowire"
)

// Port is where the guest serves the control channel.
const Port = 49982

// Type is the type of a frame.
type Type byte

// The types of frames: calls, then frames of both ends and further calls, then frames
// that only the guest sends.
const (
	Ping      Type = 0x01
	Configure Type = 0x02
	Quiesce   Type = 0x03
	Exec      Type = 0x04
	Input     Type = 0x05
	Kill      Type = 0x06
	WriteFile Type = 0x07
	ReadFile  Type = 0x08
	Hold      Type = 0x09
	Release   Type = 0x0a
	Outcome   Type = 0x0b
	Process   Type = 0x0c
	Attach    Type = 0x0d
	File      Type = 0x0e
	Watch     Type = 0x0f

	Data   Type = 0x10
	End    Type = 0x11
	Pack   Type = 0x12
	Unpack Type = 0x13
	Dial   Type = 0x14

	Answer  Type = 0x20
	Failure Type = 0x21
	Event   Type = 0x22
)

// Sizes in bytes.
const (
	// HeaderBytes is the size of the header before a payload.
	HeaderBytes = 5
	// MaxToken is the longest access token.
	MaxToken = 4096
	// MaxData is the size of the largest payload of a Data frame.
	MaxData = 1 << 20

	tokenLenBytes = 2
)

// ErrMalformed means that bytes are no frame, or a payload is not the expected
// message.
var ErrMalformed = errors.New("malformed frame")

// AppendHeader appends the header of a frame with a payload of n bytes.
func AppendHeader(b []byte, t Type, n int) []byte {
	return binary.BigEndian.AppendUint32(append(b, byte(t)), uint32(n))
}

// AppendFrame appends a frame whose payload encode appends; a nil encode appends an
// empty one.
func AppendFrame(b []byte, t Type, encode func([]byte) []byte) []byte {
	start := len(b)
	b = AppendHeader(b, t, 0)
	if encode != nil {
		b = encode(b)
	}
	binary.BigEndian.PutUint32(b[start+1:], uint32(len(b)-start-HeaderBytes))
	return b
}

// AppendCall appends the frame of a call. A token longer than MaxToken is
// ErrMalformed.
func AppendCall(b []byte, t Type, token string, message []byte) ([]byte, error) {
	if len(token) > MaxToken {
		return nil, ErrMalformed
	}
	b = AppendHeader(b, t, tokenLenBytes+len(token)+len(message))
	b = binary.BigEndian.AppendUint16(b, uint16(len(token)))
	b = append(b, token...)
	return append(b, message...), nil
}

// malformed returns ErrMalformed with the error n of protowire.
func malformed(n int) error { return errors.Join(ErrMalformed, protowire.ParseError(n)) }
