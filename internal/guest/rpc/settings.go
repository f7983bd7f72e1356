package rpc

import (
	"encoding/binary"
	"errors"
)

// The record of settings in the vault: a magic number, the generation, how many
// texts follow, and the texts, each after its length. All numbers are varints.
// It never leaves the machine, and only agents of the same boot read it: there
// are no versions to tell apart.

const settingsMagic = 0x77726e31

var errRecord = errors.New("the record is not whole")

// encode returns s as a record.
func (s *settings) encode() []byte {
	texts := []string{s.SandboxID, s.Token, s.DefaultUser, s.DefaultDir}
	for k, v := range s.Envs {
		texts = append(texts, k, v)
	}
	size := 3 * binary.MaxVarintLen64
	for _, t := range texts {
		size += binary.MaxVarintLen64 + len(t)
	}
	b := binary.AppendUvarint(make([]byte, 0, size), settingsMagic)
	b = binary.AppendUvarint(b, s.Generation)
	b = binary.AppendUvarint(b, uint64(len(texts)))
	for _, t := range texts {
		b = append(binary.AppendUvarint(b, uint64(len(t))), t...)
	}
	return b
}

// decodeSettings reads a whole record.
func decodeSettings(b []byte) (s settings, err error) {
	next := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			b, err = nil, errRecord
			return 0
		}
		b = b[n:]
		return v
	}
	text := func() string {
		n := next()
		if n > uint64(len(b)) {
			b, err = nil, errRecord
			return ""
		}
		t := string(b[:n])
		b = b[n:]
		return t
	}
	magic := next()
	s.Generation = next()
	count := next()
	s.SandboxID, s.Token, s.DefaultUser, s.DefaultDir = text(), text(), text(), text()
	for ; count > 4 && err == nil; count -= 2 {
		if s.Envs == nil {
			s.Envs = make(map[string]string)
		}
		key := text()
		s.Envs[key] = text()
	}
	if err != nil || magic != settingsMagic || count != 4 || len(b) != 0 {
		return settings{}, errRecord
	}
	return s, nil
}
