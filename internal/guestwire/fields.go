package guestwire

import (
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// field is one encoded field of a message.
type field struct {
	num protowire.Number
	typ protowire.Type
	n   uint64 // of a varint
	b   []byte // of a length-delimited field; it aliases the message
}

// walk calls visit with every varint and every length-delimited field of the
// message b, in order. It skips fields of other types, as protobuf skips unknown
// fields.
func walk(b []byte, visit func(field) error) error {
	for len(b) > 0 {
		f := field{}
		var n int
		if f.num, f.typ, n = protowire.ConsumeTag(b); n < 0 {
			return malformed(n)
		}
		b = b[n:]
		switch f.typ {
		case protowire.VarintType:
			f.n, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			f.b, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(f.num, f.typ, b)
		}
		if n < 0 {
			return malformed(n)
		}
		b = b[n:]
		if f.typ != protowire.VarintType && f.typ != protowire.BytesType {
			continue
		}
		if err := visit(f); err != nil {
			return err
		}
	}
	return nil
}

// text sets *to if f is a string, which must be UTF-8.
func (f field) text(to *string) error {
	if f.typ != protowire.BytesType {
		return nil
	}
	if !utf8.Valid(f.b) {
		return ErrMalformed
	}
	*to = string(f.b)
	return nil
}

// raw sets *to if f is a field of bytes.
func (f field) raw(to *[]byte) {
	if f.typ == protowire.BytesType {
		*to = append([]byte{}, f.b...)
	}
}

// optionalText is text for a field that may be absent.
func (f field) optionalText(to **string) error {
	if f.typ != protowire.BytesType {
		return nil
	}
	*to = new(string)
	return f.text(*to)
}

// number sets *to if f is an unsigned number. It drops bits that do not fit, as
// protobuf does.
func number[T ~uint32 | ~uint64 | ~int64](f field, to *T) {
	if f.typ == protowire.VarintType {
		*to = T(f.n)
	}
}

// flag sets *to if f is a bool.
func (f field) flag(to *bool) {
	if f.typ == protowire.VarintType {
		*to = f.n != 0
	}
}

// message walks f if it is a message.
func (f field) message(visit func(field) error) error {
	if f.typ != protowire.BytesType {
		return nil
	}
	return walk(f.b, visit)
}

// entry puts f, an entry of a map of texts, into *to.
func (f field) entry(to *map[string]string) error {
	if f.typ != protowire.BytesType {
		return nil
	}
	var key, value string
	err := walk(f.b, func(e field) error {
		switch e.num {
		case 1:
			return e.text(&key)
		case 2:
			return e.text(&value)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if *to == nil {
		*to = make(map[string]string)
	}
	(*to)[key] = value
	return nil
}

// The append functions leave out zero values, as proto3 does.

func appendText(b []byte, num protowire.Number, v string) []byte {
	if v == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), v)
}

func appendRaw(b []byte, num protowire.Number, v []byte) []byte {
	if len(v) == 0 {
		return b
	}
	return appendMessage(b, num, v)
}

func appendNumber(b []byte, num protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
}

func appendFlag(b []byte, num protowire.Number, v bool) []byte {
	if !v {
		return b
	}
	return appendNumber(b, num, 1)
}

// appendMessage appends an embedded message, even an empty one.
func appendMessage(b []byte, num protowire.Number, message []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), message)
}
