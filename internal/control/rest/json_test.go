package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// decodedBody is the body that FuzzDecodeObject decodes: one field of each type.
type decodedBody struct {
	S string            `json:"s"`
	N int               `json:"n"`
	L []string          `json:"l"`
	M map[string]string `json:"m"`
}

func (b *decodedBody) fields() fields {
	return fields{"s": &b.S, "n": &b.N, "l": &b.L, "m": &b.M}
}

// FuzzDecodeObject: no input makes the decoder panic, every refusal is an Invalid
// fault, and encoding/json takes every accepted input too, with the same result.
func FuzzDecodeObject(f *testing.F) {
	for _, seed := range []string{
		"", "{}", `{"s":"a","n":1,"l":["x"],"m":{"k":"v"}}`, `{"s":null}`, `{"n":1.0}`, `{"n":1e2}`, `{"n":-0}`, `{"l":[[]]}`,
		`{"m":{"a":"1","a":"2"}}`, `{"s":"\ud800"}`, `{"S":"x"}`, `{"s":"a"}x`, "{\"s\":\"\xff\"}", `[`, `{"l":[1`, `{"s" "a"}`, `{,}`,
		`{"n":99999999999999999999}`, strings.Repeat("[", 20000), `{"m":` + strings.Repeat(`{"a":`, 20000),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var got, want decodedBody
		err := decodeObject(body, got.fields())
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Fatalf("%v is no Invalid fault", err)
			}
			return
		}
		if len(bytes.TrimSpace(body)) == 0 {
			return
		}
		dec := json.NewDecoder(bytes.NewReader(body))
		dec.DisallowUnknownFields()
		err = dec.Decode(&want)
		if typ := (*json.UnmarshalTypeError)(nil); errors.As(err, &typ) && strings.HasPrefix(typ.Value, "number") {
			return // an integer that is written with a fraction or an exponent, which encoding/json does not take
		}
		if err != nil {
			t.Fatalf("%q was taken, encoding/json says %v", body, err)
		}
		g, _ := json.Marshal(got)
		w, _ := json.Marshal(want)
		if !bytes.Equal(g, w) {
			t.Fatalf("%q: got %s, want %s", body, g, w)
		}
	})
}

// FuzzAttachment: no name breaks out of the header.
func FuzzAttachment(f *testing.F) {
	for _, seed := range []string{"a.txt", "../x", "a\r\nb", `"`, "é", "\xff", "a/", "%0d%0a"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		header := attachment(name)
		for _, c := range []byte(header) {
			if c < ' ' || c > '~' {
				t.Fatalf("%q holds %#x", header, c)
			}
		}
		if strings.Count(header, `"`) != 2 {
			t.Fatalf("%q", header)
		}
	})
}
