package rest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// says returns a command that writes the chunks, "1:..." to stdout and "2:..."
// to stderr, and ends with result and err.
func says(result control.ExecResult, err error, chunks ...string) func(context.Context, control.Exec, control.ExecSink) (control.ExecResult, error) {
	return func(_ context.Context, _ control.Exec, sink control.ExecSink) (control.ExecResult, error) {
		for _, c := range chunks {
			write := sink.Stdout
			if c[0] == '2' {
				write = sink.Stderr
			}
			if err := write([]byte(c[2:])); err != nil {
				return control.ExecResult{}, err
			}
		}
		return result, err
	}
}

// execWorld is a world with a running sandbox; path is its exec path.
func execWorld(t *testing.T, change ...func(*Config)) (*world, string) {
	w := newWorld(t, change...)
	return w, "/v1/sandboxes/" + string(w.fake.add(sandbox.Running)) + "/exec"
}

var errExecTimeout = fault.New(fault.Timeout, "exec_timeout", "the command was killed")

func TestExecPassesEveryField(t *testing.T) {
	w, path := execWorld(t)
	var got control.Exec
	w.fake.exec = func(_ context.Context, e control.Exec, _ control.ExecSink) (control.ExecResult, error) {
		got = e
		return control.ExecResult{}, nil
	}
	w.want(w.call("POST", path, `{"cmd":"sh"}`), http.StatusOK)
	if want := (control.Exec{Cmd: "sh", Timeout: 30 * time.Second}); !reflect.DeepEqual(got, want) {
		t.Errorf("defaults: %+v", got)
	}
	w.want(w.call("POST", path, `{"cmd":"sh","args":["-c","$x; 'y'",""],"env":{"A":"b"},"cwd":"/tmp","user":"app",`+
		`"stdin":"AP8=","stdin_encoding":"base64","timeout_sec":86400}`), http.StatusOK)
	want := control.Exec{
		Cmd: "sh", Args: []string{"-c", "$x; 'y'", ""}, Env: map[string]string{"A": "b"}, Cwd: "/tmp", User: "app",
		Stdin: []byte{0, 255}, Timeout: 24 * time.Hour,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
	got.Input = new(execInput) // of a body of lines, below
	everyFieldFilled(t, got)
	w.want(w.call("POST", path, `{"cmd":"wc","stdin":"é\n"}`), http.StatusOK)
	if string(got.Stdin) != "é\n" {
		t.Errorf("stdin is %q", got.Stdin)
	}
}

// collected is the output in an answer.
type collected struct {
	Stdout          string
	Stderr          string
	DurationMS      int64 `json:"duration_ms"`
	Encoding        string
	StdoutTruncated bool `json:"stdout_truncated"`
	StderrTruncated bool `json:"stderr_truncated"`
}

// execAnswer is the schema ExecResponse.
type execAnswer struct {
	SandboxID string `json:"sandbox_id"`
	Cmd       string
	ExitCode  int `json:"exit_code"`
	Signal    *string
	// TimeoutSec is the timeout of the command, in seconds.
	TimeoutSec int64 `json:"timeout_sec"`
	collected
}

func TestExecCollects(t *testing.T) {
	b64 := base64.StdEncoding.EncodeToString
	killed := control.ExecResult{ExitCode: 137, Signal: "killed", Duration: 1500 * time.Millisecond}
	for _, c := range []struct {
		name   string
		result control.ExecResult
		chunks []string
		want   collected
	}{
		{"nothing", control.ExecResult{}, nil, collected{Encoding: "utf-8"}},
		{"text", killed, []string{"1:a<", "2:b", "1:é\n"}, collected{Stdout: "a<é\n", Stderr: "b", Encoding: "utf-8", DurationMS: 1500}},
		{"a character in two chunks", control.ExecResult{}, []string{"1:\xc3", "1:\xa9"}, collected{Stdout: "é", Encoding: "utf-8"}},
		{"binary stderr", control.ExecResult{}, []string{"1:text", "2:\xff\x00"}, collected{Stdout: b64([]byte("text")), Stderr: b64([]byte{255, 0}), Encoding: "base64"}},
		{"half a character", control.ExecResult{}, []string{"1:a\xc3"}, collected{Stdout: b64([]byte("a\xc3")), Encoding: "base64"}},
		{"just fits", control.ExecResult{}, []string{"1:12345678"}, collected{Stdout: "12345678", Encoding: "utf-8"}},
		{"too long", control.ExecResult{}, []string{"1:1234", "1:56789", "1:more", "2:ok"}, collected{Stdout: "12345678", Stderr: "ok", Encoding: "utf-8", StdoutTruncated: true}},
		{"cut in a character", control.ExecResult{}, []string{"2:1234567é"}, collected{Stderr: "1234567", Encoding: "utf-8", StderrTruncated: true}},
		{"cut binary", control.ExecResult{}, []string{"1:\xff2345678é"}, collected{Stdout: b64([]byte("\xff2345678")), Encoding: "base64", StdoutTruncated: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, path := execWorld(t, func(c *Config) { c.MaxOutputBytes = 8 })
			w.fake.exec = says(c.result, nil, c.chunks...)
			a := w.want(w.call("POST", path, `{"cmd":"x"}`), http.StatusOK)
			got := decode[execAnswer](w, a)
			if got.collected != c.want {
				t.Errorf("got %+v, want %+v", got.collected, c.want)
			}
			if got.ExitCode != c.result.ExitCode || (got.Signal != nil) != (c.result.Signal != "") || got.Cmd != "x" ||
				!strings.Contains(path, got.SandboxID) || got.TimeoutSec != DefaultExecTimeoutSec {
				t.Errorf("got %s", a.body)
			}
		})
	}
}

func TestExecTimeoutShowsWhatWasWritten(t *testing.T) {
	w, path := execWorld(t)
	w.fake.exec = says(control.ExecResult{}, errExecTimeout, "1:half", "2:way")
	got := w.want(w.call("POST", path, `{"cmd":"x"}`), http.StatusGatewayTimeout)
	details := decode[struct {
		Error struct {
			Code, Message string
			Details       collected
		}
	}](w, got).Error
	if details.Code != "exec_timeout" || details.Message == "" || details.Details.Stdout != "half" || details.Details.Stderr != "way" {
		t.Errorf("got %s", got.body)
	}
	w.fake.exec = says(control.ExecResult{}, fault.New(fault.Timeout, "timeout", "no answer"), "1:half")
	if got := w.want(w.call("POST", path, `{"cmd":"x"}`), http.StatusGatewayTimeout).fault(w); got.Details != nil {
		t.Errorf("another timeout has details: %+v", got)
	}
	w.fake.exec = says(control.ExecResult{}, fault.New(fault.NotFound, "command_not_found", "there is no x"))
	w.want(w.call("POST", path, `{"cmd":"x"}`), http.StatusNotFound)
}

func TestExecStreams(t *testing.T) {
	for _, c := range []struct {
		name   string
		err    error
		chunks []string
		want   []string
	}{
		{"silent", nil, nil, []string{`{"type":"exit","exit_code":3,"signal":"killed","oom":true,"duration_ms":1000}`}},
		{
			"text and binary", nil,
			[]string{"1:a<b\n", "2:\xff", "1:\xc3", "1:\xa9", "1:\xc3"},
			[]string{
				`{"type":"stdout","data":"a<b\n","encoding":"utf-8"}`,
				`{"type":"stderr","data":"/w==","encoding":"base64"}`,
				`{"type":"stdout","data":"é","encoding":"utf-8"}`,
				`{"type":"stdout","data":"ww==","encoding":"base64"}`,
				`{"type":"exit","exit_code":3,"signal":"killed","oom":true,"duration_ms":1000}`,
			},
		},
		{
			"timeout", errExecTimeout,
			[]string{"1:half"},
			[]string{
				`{"type":"stdout","data":"half","encoding":"utf-8"}`,
				`{"type":"error","error":{"code":"exec_timeout","message":"the command was killed"}}`,
			},
		},
		{
			"internal", errors.New("secret"),
			[]string{"1:half"},
			[]string{
				`{"type":"stdout","data":"half","encoding":"utf-8"}`,
				`{"type":"error","error":{"code":"internal","message":"an internal error; the request id finds it in the server's log"}}`,
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, path := execWorld(t)
			w.fake.exec = says(control.ExecResult{ExitCode: 3, Signal: "killed", OutOfMemory: true, Duration: time.Second}, c.err, c.chunks...)
			a := w.want(w.call("POST", path, `{"cmd":"x"}`, "Accept: application/x-ndjson, application/json"), http.StatusOK)
			if got := strings.Split(strings.TrimSpace(string(a.body)), "\n"); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
	w, path := execWorld(t)
	w.fake.exec = says(control.ExecResult{}, errExecTimeout)
	w.want(w.call("POST", path, `{"cmd":"x"}`, "Accept: "+ndjson), http.StatusGatewayTimeout)
}

// TestStreamedOutputComesAtOnce: the command continues only when the client has
// seen its output.
func TestStreamedOutputComesAtOnce(t *testing.T) {
	w, path := execWorld(t)
	seen := make(chan bool)
	w.fake.exec = func(ctx context.Context, _ control.Exec, sink control.ExecSink) (control.ExecResult, error) {
		for i := range 3 {
			if err := sink.Stdout(fmt.Appendf(nil, "line %d", i)); err != nil {
				return control.ExecResult{}, err
			}
			select {
			case <-seen:
			case <-ctx.Done():
				return control.ExecResult{}, ctx.Err()
			}
		}
		return control.ExecResult{}, nil
	}
	req, _ := http.NewRequestWithContext(t.Context(), "POST", w.url+path, strings.NewReader(`{"cmd":"x"}`))
	req.Header.Set("Accept", ndjson)
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for i := range 3 {
		var e outputEvent
		if !lines.Scan() || json.Unmarshal(lines.Bytes(), &e) != nil || e.Data != fmt.Sprint("line ", i) {
			t.Fatalf("line %d is %q (%v)", i, lines.Text(), lines.Err())
		}
		seen <- true
	}
	if !lines.Scan() || !strings.Contains(lines.Text(), `"exit"`) {
		t.Errorf("the end is %q", lines.Text())
	}
}

// TestHangingUpCancels: for both forms of an exec the command's context ends
// when the caller goes.
func TestHangingUpCancels(t *testing.T) {
	for _, accept := range []string{"application/json", ndjson} {
		w, path := execWorld(t)
		started, ended := make(chan bool, 1), make(chan error, 1)
		w.fake.exec = func(ctx context.Context, _ control.Exec, sink control.ExecSink) (control.ExecResult, error) {
			started <- true
			<-ctx.Done()
			ended <- ctx.Err()
			return control.ExecResult{}, ctx.Err()
		}
		ctx, hangUp := context.WithCancel(t.Context())
		req, _ := http.NewRequestWithContext(ctx, "POST", w.url+path, strings.NewReader(`{"cmd":"x"}`))
		req.Header.Set("Accept", accept)
		go func() {
			<-started
			hangUp()
		}()
		if resp, err := client.Do(req); err == nil {
			resp.Body.Close()
			t.Fatal("the exec answered")
		}
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: the command's context ended with %v", accept, err)
		}
	}
}

// TestSplittingLosesNothing: for any chunks, the joined events are the output, and
// text in whole characters stays text.
func TestSplittingLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		output := rapid.OneOf(
			rapid.SliceOf(rapid.Byte()),
			rapid.Custom(func(t *rapid.T) []byte { return []byte(rapid.String().Draw(t, "text")) }),
		).Draw(t, "output")
		rec := &plainRecorder{}
		ew := newEventWriter(rec, time.Minute)
		for rest := output; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "chunk")
			if err := ew.Stdout(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := ew.finish(exitEvent{Type: "exit"}); err != nil {
			t.Fatal(err)
		}
		var joined []byte
		for line := range bytes.Lines(rec.Bytes()) {
			var e outputEvent
			if err := json.Unmarshal(line, &e); err != nil {
				t.Fatal(err)
			}
			data := []byte(e.Data)
			if e.Encoding == "base64" {
				if utf8.Valid(output) {
					t.Fatalf("text %q came as base64", output)
				}
				data, _ = base64.StdEncoding.DecodeString(e.Data)
			}
			joined = append(joined, data...)
		}
		if !bytes.Equal(joined, output) {
			t.Fatalf("got %q, want %q", joined, output)
		}
	})
}

// plainRecorder is a response writer that keeps the body.
type plainRecorder struct {
	bytes.Buffer
	header http.Header
}

func (p *plainRecorder) Header() http.Header {
	if p.header == nil {
		p.header = make(http.Header)
	}
	return p.header
}
func (p *plainRecorder) WriteHeader(int) {}
func (p *plainRecorder) Flush()          {}
