package envd

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// Types of frames of HTTP/2.
const (
	frameHeaders  = 1
	frameReset    = 3
	frameSettings = 4
)

func frame(kind, flags byte, stream uint32, payload string) string {
	head := binary.BigEndian.AppendUint32(nil, uint32(len(payload)))[1:]
	head = append(head, kind, flags)
	return string(binary.BigEndian.AppendUint32(head, stream)) + payload
}

// TestRefusalsEnd: a client of HTTP/2 that takes no body cannot make requests without a
// token stay. Few of them wait for the client at once, and all end by themselves.
func TestRefusalsEnd(t *testing.T) {
	t.Parallel()
	g := newGuest(t).open()
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const requests = 3 * maxRefusals
	var out strings.Builder
	out.WriteString("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	// SETTINGS_INITIAL_WINDOW_SIZE is 0.
	out.WriteString(frame(frameSettings, 0, 0, "\x00\x04\x00\x00\x00\x00") + frame(frameSettings, 1, 0, ""))
	for i := range requests {
		// GET http /files x, with the end of the headers and of the stream.
		out.WriteString(frame(frameHeaders, 5, uint32(2*i+1), "\x82\x86\x04\x06/files\x01\x01x"))
	}
	if _, err := io.WriteString(conn, out.String()); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(testPatience)); err != nil {
		t.Fatal(err)
	}
	in, answered, reset := bufio.NewReader(conn), 0, 0
	for reset < requests {
		var head [9]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			t.Fatalf("%d of %d requests have ended: %v", reset, requests, err)
		}
		if _, err := in.Discard(int(binary.BigEndian.Uint32(head[:4]) >> 8)); err != nil {
			t.Fatal(err)
		}
		switch head[3] {
		case frameHeaders:
			answered++
		case frameReset:
			reset++
		}
	}
	if answered == 0 || answered == requests {
		t.Errorf("%d of %d requests were answered, want those within the limit of %d only", answered, requests, maxRefusals)
	}
}

// deadlines is a ResponseWriter that records the write deadlines of a request.
type deadlines struct {
	*httptest.ResponseRecorder
	set []time.Time
}

// SetWriteDeadline serves http.ResponseController.
func (d *deadlines) SetWriteDeadline(t time.Time) error {
	d.set = append(d.set, t)
	return nil
}

// TestRefusalDeadline: a refusal has a deadline, and the next request on its connection,
// which net/http leaves with that, has none if it is admitted.
func TestRefusalDeadline(t *testing.T) {
	t.Parallel()
	g := newGuest(t).open()
	h := New(g.agent).Handler()
	for token, admitted := range map[string]bool{"": false, "wrong": false, g.token: true} {
		for _, path := range []string{"/envs", "/files?path=/missing"} {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
			if token != "" {
				r.Header.Set(headerToken, token)
			}
			w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
			h.ServeHTTP(w, r)
			if refused := w.Code == http.StatusUnauthorized; refused == admitted || len(w.set) == 0 || w.set[0].IsZero() != admitted {
				t.Errorf("%s with token %q: got %d and the deadlines %v, want admitted %t", path, token, w.Code, w.set, admitted)
			}
		}
	}
}
