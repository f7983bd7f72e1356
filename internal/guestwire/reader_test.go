package guestwire

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

// three are frames of all sizes that matter to a Reader.
func three() ([]byte, [][]byte) {
	payloads := [][]byte{nil, []byte("short"), bytes.Repeat([]byte("0123456789"), 20_000)}
	var b []byte
	for _, p := range payloads {
		b = AppendFrame(b, Data, func(b []byte) []byte { return append(b, p...) })
	}
	return b, payloads
}

func TestReaderReadsFramesAsTheyWereSent(t *testing.T) {
	b, want := three()
	for name, src := range map[string]io.Reader{
		"at once": bytes.NewReader(b), "byte by byte": iotest.OneByteReader(bytes.NewReader(b)), "by halves": iotest.HalfReader(bytes.NewReader(b)),
	} {
		r := NewReader(src)
		for i, w := range want {
			if typ, got, err := r.Frame(1 << 20); typ != Data || !bytes.Equal(got, w) || err != nil {
				t.Fatalf("%s: frame %d: type %d, %d bytes, %v", name, i, typ, len(got), err)
			}
		}
		if _, _, err := r.Header(); !errors.Is(err, io.EOF) || r.Pending() {
			t.Errorf("%s: after the last: %v", name, err)
		}
	}
}

func TestReaderTellsAnEndFromABreak(t *testing.T) {
	b, _ := three()
	for cut := 1; cut < len(b); cut += 1 + cut/50*997 {
		r := NewReader(bytes.NewReader(b[:cut]))
		for {
			_, _, err := r.Frame(1 << 20)
			if err == nil {
				continue
			}
			whole := cut == HeaderBytes || cut == 2*HeaderBytes+len("short")
			if errors.Is(err, io.EOF) != whole || errors.Is(err, io.ErrUnexpectedEOF) == whole {
				t.Fatalf("cut at %d: %v", cut, err)
			}
			break
		}
	}
}

// TestReaderMakesNoRoomForPromises: memory follows the bytes received, not those
// announced.
func TestReaderMakesNoRoomForPromises(t *testing.T) {
	const promised = 1 << 29
	src := io.MultiReader(bytes.NewReader(AppendHeader(nil, Data, promised)), bytes.NewReader(make([]byte, 100)))
	r := NewReader(src)
	if _, _, err := r.Frame(promised); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
	if cap(r.buf) > 2*smallBuffer {
		t.Errorf("%d bytes of room for 100", cap(r.buf))
	}
	if _, _, err := NewReader(bytes.NewReader(AppendHeader(nil, Data, promised))).Frame(promised - 1); !errors.Is(err, ErrMalformed) {
		t.Errorf("over the limit: %v", err)
	}
}

func TestReaderGivesRoomBack(t *testing.T) {
	b, _ := three()
	b = AppendFrame(b, End, nil)
	r := NewReader(iotest.OneByteReader(bytes.NewReader(b)))
	for range 4 {
		if _, _, err := r.Frame(1 << 20); err != nil {
			t.Fatal(err)
		}
	}
	if cap(r.buf) > keptBuffer {
		t.Errorf("%d bytes are kept", cap(r.buf))
	}
}

func TestCalls(t *testing.T) {
	for _, token := range []string{"", "secret"} {
		b, err := AppendCall(nil, Exec, token, []byte("message"))
		if err != nil {
			t.Fatal(err)
		}
		r := NewReader(bytes.NewReader(b))
		_, n, err := r.Header()
		if err != nil {
			t.Fatal(err)
		}
		got, left, err := r.Token(n)
		if string(got) != token || err != nil {
			t.Errorf("token %q, %v", got, err)
		}
		if message, err := r.Take(left); string(message) != "message" || err != nil {
			t.Errorf("message %q, %v", message, err)
		}
	}
	if _, err := AppendCall(nil, Exec, string(make([]byte, MaxToken+1)), nil); !errors.Is(err, ErrMalformed) {
		t.Errorf("a long token: %v", err)
	}
	for name, b := range map[string][]byte{"no length": {0}, "longer than the call": {0, 9, 'x'}, "too long": {0xff, 0xff}} {
		if _, _, err := NewReader(bytes.NewReader(b)).Token(len(b)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzReader: no bytes make it panic, loop forever, or return more than was
// there.
func FuzzReader(f *testing.F) {
	b, _ := three()
	f.Add(b[:200])
	f.Add([]byte("\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewReader(iotest.HalfReader(bytes.NewReader(b)))
		total := 0
		for {
			_, payload, err := r.Frame(1 << 16)
			if err != nil {
				return
			}
			if total += HeaderBytes + len(payload); total > len(b) {
				t.Fatalf("%d bytes out of %d", total, len(b))
			}
		}
	})
}
