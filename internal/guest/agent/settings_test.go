package agent

import (
	"reflect"
	"testing"
)

func TestSettingsSurviveARestart(t *testing.T) {
	for _, s := range []Settings{
		{},
		{SandboxID: "abc", Generation: 1 << 60, Token: "secret", EnvdToken: "public", DefaultUser: "user", DefaultDir: "/srv", Envs: map[string]string{"A": "b", "": "", "C": "d=e\n"}},
	} {
		b := s.encode()
		if got, err := decodeSettings(b); err != nil || !reflect.DeepEqual(got, s) {
			t.Errorf("got %+v, %v; want %+v", got, err, s)
		}
		for cut := range len(b) {
			if got, err := decodeSettings(b[:cut]); err == nil {
				t.Fatalf("decoding %d of %d bytes: got %+v, want an error", cut, len(b), got)
			}
		}
		if _, err := decodeSettings(append(b, 0)); err == nil {
			t.Error("decoding a record with a byte after it: got no error")
		}
	}
}
