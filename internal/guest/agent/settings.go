package agent

import (
	"crypto/subtle"
	"encoding/binary"
	"errors"
)

// Settings are the part of a Configure call that its epoch keeps.
type Settings struct {
	SandboxID  string
	Generation uint64
	// Token is that of the control channel. Empty means that its calls need none.
	Token string
	// EnvdToken is that of the public server. Empty means that it admits no request
	// that needs a token.
	EnvdToken   string
	Envs        map[string]string
	DefaultUser string
	// DefaultDir is empty for the default user's home.
	DefaultDir string
}

// Admits reports whether token is that of the control channel, in constant time.
func (s *Settings) Admits(token string) bool {
	return s.Token == "" || subtle.ConstantTimeCompare([]byte(s.Token), []byte(token)) == 1
}

// AdmitsPublic reports whether token is that of the public server, in constant time.
func (s *Settings) AdmitsPublic(token string) bool {
	return s.EnvdToken != "" && subtle.ConstantTimeCompare([]byte(s.EnvdToken), []byte(token)) == 1
}

// The record of settings in the SettingsStore: a magic number, the generation,
// the number of texts, and the texts, each after its length. All numbers are
// varints. The record never leaves the guest, and only agents of the same boot
// read it, so that it needs no version.

const (
	settingsMagic = 0x77726e32
	// settingsTexts is the number of texts before those of the environment.
	settingsTexts = 5
)

var errRecord = errors.New("the record is incomplete")

// encode returns s as a record.
func (s *Settings) encode() []byte {
	texts := []string{s.SandboxID, s.Token, s.EnvdToken, s.DefaultUser, s.DefaultDir}
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

// decodeSettings reads a complete record and refuses anything else.
func decodeSettings(b []byte) (s Settings, err error) {
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
	s.SandboxID, s.Token, s.EnvdToken, s.DefaultUser, s.DefaultDir = text(), text(), text(), text(), text()
	for ; count > settingsTexts && err == nil; count -= 2 {
		if s.Envs == nil {
			s.Envs = make(map[string]string)
		}
		key := text()
		s.Envs[key] = text()
	}
	if err != nil || magic != settingsMagic || count != settingsTexts || len(b) != 0 {
		return Settings{}, errRecord
	}
	return s, nil
}
