package rest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// cat is a command that copies its input to its output.
func cat(_ context.Context, e control.Exec, sink control.ExecSink) (control.ExecResult, error) {
	defer e.Input.Close()
	buf := make([]byte, 16)
	for {
		n, err := e.Input.Read(buf)
		if n > 0 {
			if err := sink.Stdout(buf[:n]); err != nil {
				return control.ExecResult{}, err
			}
		}
		if errors.Is(err, io.EOF) {
			return control.ExecResult{ExitCode: 5}, nil
		}
		if err != nil {
			return control.ExecResult{}, err
		}
	}
}

// linesRequest is an exec with lines as its body.
func linesRequest(t *testing.T, url string, body io.Reader, accept string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", url, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", ndjson)
	req.Header.Set("Accept", accept)
	return req
}

// TestInputComesWhileTheCommandRuns: over HTTP/1.1, a line of stdin is sent
// only when the answer to the one before it has been read.
func TestInputComesWhileTheCommandRuns(t *testing.T) {
	w, path := execWorld(t)
	w.fake.exec = cat
	body, stdin := io.Pipe()
	go fmt.Fprintln(stdin, `{"cmd":"cat"}`+"\n\n"+`{"type":"stdin","data":"begin "}`)
	resp, err := client.Do(linesRequest(t, w.url+path, body, ndjson))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	events := bufio.NewScanner(resp.Body)
	next := func(want string) {
		t.Helper()
		if !events.Scan() || !strings.Contains(events.Text(), want) {
			t.Fatalf("the event is %q (%v), want %s", events.Text(), events.Err(), want)
		}
	}
	next(`"data":"begin "`)
	fmt.Fprintln(stdin, `{"type":"stdin","data":"/wA=","encoding":"base64"}`)
	next(`"data":"/wA=","encoding":"base64"`)
	fmt.Fprint(stdin, `{"type":"stdin","data":"no line break"}`)
	stdin.Close()
	next("no line break")
	next(`"exit_code":5`)
}

// TestInputWithACollectedAnswer is the other form, with more than one request
// of JSON could hold.
func TestInputWithACollectedAnswer(t *testing.T) {
	w, path := execWorld(t)
	w.fake.exec = cat
	const lines = 4000
	body := `{"cmd":"cat"}` + strings.Repeat("\n"+`{"type":"stdin","data":"`+strings.Repeat("x", 999)+`\n"}`, lines)
	a := w.want(w.send(linesRequest(t, w.url+path, strings.NewReader(body), "application/json")), http.StatusOK)
	if got := strings.Count(string(a.body), `x\n`); got != lines {
		t.Errorf("%d lines came back, want %d", got, lines)
	}
}

func TestBadInputLines(t *testing.T) {
	w, path := execWorld(t)
	w.fake.exec = cat
	first := `{"cmd":"cat"}` + "\n"
	for name, c := range map[string]struct {
		body   string
		status int
		code   string
	}{
		"nothing":         {"", 400, "invalid_json"},
		"no command":      {"{}\n", 400, "invalid_cmd"},
		"no JSON":         {"cat\n", 400, "invalid_json"},
		"stdin at first":  {`{"cmd":"cat","stdin":"x"}` + "\n", 400, "invalid_stdin"},
		"long first line": {`{"cmd":"` + strings.Repeat("x", maxInputLine) + `"}`, 413, "body_too_large"},
		"unknown type":    {first + `{"type":"signal"}`, 400, "invalid_stdin"},
		"no type":         {first + `{"data":"x"}`, 400, "invalid_stdin"},
		"unknown field":   {first + `{"type":"stdin","x":1}`, 400, "unknown_field"},
		"bad base64":      {first + `{"type":"stdin","data":"!","encoding":"base64"}`, 400, "invalid_stdin"},
		"long line":       {first + `{"type":"stdin","data":"` + strings.Repeat("x", maxInputLine) + `"}`, 413, "body_too_large"},
		"not UTF-8":       {first + "{\"type\":\"stdin\",\"data\":\"\xff\"}", 400, "invalid_json"},
	} {
		a := w.want(w.send(linesRequest(t, w.url+path, strings.NewReader(c.body), "application/json")), c.status)
		if !strings.Contains(string(a.body), `"`+c.code+`"`) {
			t.Errorf("%s: %s, want %s", name, a.body, c.code)
		}
	}
}

// TestCommandEndsBeforeItsInput: the answer comes although nobody has closed
// stdin.
func TestCommandEndsBeforeItsInput(t *testing.T) {
	for _, accept := range []string{ndjson, "application/json"} {
		w, path := execWorld(t)
		w.fake.exec = func(_ context.Context, e control.Exec, _ control.ExecSink) (control.ExecResult, error) {
			return control.ExecResult{}, e.Input.Close()
		}
		body, stdin := io.Pipe()
		go fmt.Fprintln(stdin, `{"cmd":"true"}`)
		resp, err := client.Do(linesRequest(t, w.url+path, body, accept))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 200 || !strings.Contains(string(answer), `"exit_code":0`) {
			t.Errorf("%s: %d %s (%v)", accept, resp.StatusCode, answer, err)
		}
		stdin.Close()
	}
}

// TestAnswerReachesACallerThatStillSends: a caller that sends input for a while after
// the command has ended gets the command's whole answer. A client of net/http drops
// the part that it has not read when it can send no more.
func TestAnswerReachesACallerThatStillSends(t *testing.T) {
	output := strings.Repeat("output ", 40_000)
	for _, accept := range []string{ndjson, "application/json"} {
		w, path := execWorld(t)
		ended, sent := make(chan struct{}), make(chan struct{})
		w.fake.exec = func(_ context.Context, e control.Exec, sink control.ExecSink) (control.ExecResult, error) {
			reading := make(chan error)
			go func() {
				_, err := io.Copy(io.Discard, e.Input)
				reading <- err
			}()
			err := errors.Join(sink.Stdout([]byte(output)), e.Input.Close())
			<-reading
			close(ended)
			return control.ExecResult{}, err
		}
		body, stdin := io.Pipe()
		go func() {
			defer close(sent)
			fmt.Fprintln(stdin, `{"cmd":"true"}`)
			<-ended
			for range 5 {
				fmt.Fprintln(stdin, `{"type":"stdin","data":"`+strings.Repeat("x", 1000)+`"}`)
				time.Sleep(5 * time.Millisecond) // lets a reset arrive between two pieces
			}
		}()
		resp, err := client.Do(linesRequest(t, w.url+path, body, accept))
		if err != nil {
			t.Fatal(err)
		}
		<-sent
		answer, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 200 || !strings.Contains(string(answer), `"exit_code":0`) || len(answer) < len(output) {
			t.Errorf("%s: %d, %d bytes that end in %.100s (%v)", accept, resp.StatusCode, len(answer), answer[max(0, len(answer)-100):], err)
		}
		stdin.Close()
	}
}

// TestHangingUpEndsInput: a caller that goes while the command waits for its
// stdin breaks it off; it does not look like the end of stdin.
func TestHangingUpEndsInput(t *testing.T) {
	w, path := execWorld(t)
	ended := make(chan error, 1)
	begun := make(chan struct{})
	w.fake.exec = func(_ context.Context, e control.Exec, _ control.ExecSink) (control.ExecResult, error) {
		close(begun)
		_, err := e.Input.Read(make([]byte, 1))
		ended <- err
		return control.ExecResult{}, err
	}
	ctx, hangUp := context.WithCancel(t.Context())
	body, stdin := io.Pipe()
	defer stdin.Close()
	go fmt.Fprintln(stdin, `{"cmd":"cat"}`)
	go func() {
		<-begun
		hangUp()
		_ = stdin.CloseWithError(context.Canceled) // net/http waits for the body's end
	}()
	if resp, err := client.Do(linesRequest(t, w.url+path, body, ndjson).WithContext(ctx)); err == nil {
		resp.Body.Close()
		t.Error("it answered")
	}
	if err := <-ended; !fault.Is(err, fault.Canceled) {
		t.Errorf("reading ended with %v, want a canceled fault", err)
	}
}

// TestKeyOfABegunCommandStays: a bad line of stdin ends a command that has
// begun, so that the same key gets the same answer and no second command.
func TestKeyOfABegunCommandStays(t *testing.T) {
	w, path := execWorld(t, func(c *Config) { c.Answers = &fakeAnswers{} })
	commands := 0
	w.fake.exec = func(_ context.Context, e control.Exec, _ control.ExecSink) (control.ExecResult, error) {
		commands++
		_, err := io.ReadAll(e.Input)
		return control.ExecResult{}, err
	}
	headers := []string{"Content-Type: " + ndjson, "Accept: application/json", "Idempotency-Key: k"}
	body := "\n" + `{"cmd":"cat"}` + "\n" + `{"type":"stdin","data":"a"}` + "\n" + `{"type":"nosuch"}`
	first := w.want(w.call("POST", path, body, headers...), http.StatusBadRequest)
	if got := first.fault(w).Code; got != "invalid_stdin" {
		t.Errorf("a bad line: got %s, want invalid_stdin", got)
	}
	w.sameAnswer(first, w.call("POST", path, body, headers...))
	if commands != 1 {
		t.Errorf("%d commands began, want 1", commands)
	}
	// A bad first line begins nothing and leaves the key free.
	headers[2] = "Idempotency-Key: other"
	w.want(w.call("POST", path, "\n"+`{"cmd":7}`, headers...), http.StatusBadRequest)
	w.want(w.call("POST", path, "\n"+`{"cmd":"cat"}`, headers...), http.StatusOK)
}

// TestConnectionOutlivesARefusedLine: a body of which only the first line has been read
// leaves the connection ready for the next request.
func TestConnectionOutlivesARefusedLine(t *testing.T) {
	w, path := execWorld(t)
	conns := 0
	own := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		conns++
		return new(net.Dialer).DialContext(ctx, network, address)
	}}}
	defer own.CloseIdleConnections()
	for range 3 {
		req := linesRequest(t, w.url+path, strings.NewReader("{}\n"+strings.Repeat("\n", 100<<10)), "application/json")
		resp, err := own.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%d (%v), want 400", resp.StatusCode, err)
		}
	}
	if conns != 1 {
		t.Errorf("3 requests took %d connections, want 1", conns)
	}
}
