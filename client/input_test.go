package client_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/client"
)

// echo answers each line of stdin with its content, as the API does.
func echo(t *testing.T) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		if got := r.Header.Get("Content-Type"); got != "application/x-ndjson" {
			t.Errorf("Content-Type %q", got)
		}
		lines := bufio.NewScanner(r.Body)
		var first struct{ Cmd, Stdin string }
		if !lines.Scan() || json.Unmarshal(lines.Bytes(), &first) != nil || first.Cmd != "cat" || first.Stdin != "" {
			t.Errorf("the first line is %s", lines.Text())
		}
		for lines.Scan() {
			var e struct{ Type, Data, Encoding string }
			if err := json.Unmarshal(lines.Bytes(), &e); err != nil || e.Type != "stdin" || e.Encoding != "base64" {
				t.Errorf("a line is %s", lines.Text())
			}
			fmt.Fprintf(w, `{"type":"stdout","encoding":"base64","data":%q}`+"\n", e.Data)
			w.(http.Flusher).Flush()
		}
		fmt.Fprintln(w, `{"type":"exit","exit_code":0,"signal":null,"duration_ms":1}`)
	}
}

// TestInputComesWhileTheCommandRuns writes each piece only after the answer to
// the previous one has arrived.
func TestInputComesWhileTheCommandRuns(t *testing.T) {
	cl := serve(t, echo(t))
	in, stdin := io.Pipe()
	out, stdout := io.Pipe()
	go func() {
		defer stdin.Close()
		for _, piece := range []string{"one", "\x00\xff", strings.Repeat("long", 20_000)} {
			_, _ = io.WriteString(stdin, piece)
			got := make([]byte, len(piece))
			if _, err := io.ReadFull(out, got); err != nil || string(got) != piece {
				t.Errorf("%d bytes came back (%v), want the %d that were sent", len(got), err, len(piece))
			}
		}
	}()
	if _, err := cl.ExecStream(t.Context(), "abc", client.ExecRequest{Cmd: "cat", Input: in}, stdout, io.Discard); err != nil {
		t.Error(err)
	}
}

// TestCommandEndsBeforeItsInput: the call ends although stdin is never closed.
func TestCommandEndsBeforeItsInput(t *testing.T) {
	cl := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		_, _ = bufio.NewReader(r.Body).ReadSlice('\n')
		fmt.Fprintln(w, `{"type":"exit","exit_code":4,"signal":null,"duration_ms":1}`)
	})
	in, _ := io.Pipe()
	res, err := cl.ExecStream(t.Context(), "abc", client.ExecRequest{Cmd: "true", Input: in}, io.Discard, io.Discard)
	if err != nil || res.ExitCode != 4 {
		t.Errorf("got %+v, %v, want the code 4", res, err)
	}
}

// TestCancelWhileInputWaits: an interrupt ends the call at once although
// neither side sends anything.
func TestCancelWhileInputWaits(t *testing.T) {
	begun := make(chan struct{})
	hungUp := make(chan error, 1)
	cl := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		body := bufio.NewReader(r.Body)
		_, _ = body.ReadSlice('\n')
		close(begun)
		_, err := body.ReadByte()
		hungUp <- err
	})
	ctx, cancel := context.WithCancel(t.Context())
	in, _ := io.Pipe()
	go func() {
		<-begun
		cancel()
	}()
	if _, err := cl.ExecStream(ctx, "abc", client.ExecRequest{Cmd: "cat", Input: in}, io.Discard, io.Discard); !errors.Is(err, ctx.Err()) {
		t.Errorf("got %v, want a cancelled call", err)
	}
	if err := <-hungUp; err == nil || errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the server saw %v, want a broken body: the end of stdin would be acted on", err)
	}
}

// TestInputsOwnErrorEndsTheCall: input that cannot be read is an error, not an end.
func TestInputsOwnErrorEndsTheCall(t *testing.T) {
	cl := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	})
	broken := io.MultiReader(strings.NewReader("half"), &failingReader{})
	if _, err := cl.ExecStream(t.Context(), "abc", client.ExecRequest{Cmd: "cat", Input: broken}, io.Discard, io.Discard); !errors.Is(err, errFull) {
		t.Errorf("got %v, want the reader's error", err)
	}
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errFull }
