package rest

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/wrenn-dev/wrenn/internal/control"
)

// alphabets are kinds of output: plain, escaped, of several bytes a character,
// and broken.
var alphabets = [][]string{
	{"a", "b", "\n"},
	{"\x00", "\x1b[0m", "\"", "\\", "\t", "\v", "\x7f"},
	{"é", "€", "😀", "\u2028", "x"},
	{"é", "\xff", "\xc3", "x"},
}

// TestCollectedOutputIsWhatWasWritten compares the answer with output that was
// kept and encoded the plain way, over chunk borders of every kind.
func TestCollectedOutputIsWhatWasWritten(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	w, path := execWorld(t, func(c *Config) { c.MaxOutputBytes = firstChunk + 2*laterChunk - 1 })
	for round := range 20 {
		var written []byte
		var chunks []string
		alphabet := alphabets[rng.IntN(len(alphabets))]
		for size := rng.IntN(firstChunk + 3*laterChunk); len(written) < size; {
			chunk := strings.Repeat(alphabet[rng.IntN(len(alphabet))], 1+rng.IntN(20_000))
			cut := rng.IntN(len(chunk) + 1)
			chunks = append(chunks, "1:"+chunk[:cut], "1:"+chunk[cut:])
			written = append(written, chunk...)
		}
		w.fake.exec = says(control.ExecResult{}, nil, chunks...)
		got := decode[execAnswer](w, w.want(w.call("POST", path, `{"cmd":"x"}`), http.StatusOK))
		kept := written[:min(len(written), firstChunk+2*laterChunk-1)]
		if len(kept) < len(written) {
			kept = kept[:len(kept)-len(partialRune(kept))]
		}
		if string(decodeCollected(t, got.Stdout, got.Encoding)) != string(kept) || got.StdoutTruncated != (len(kept) < len(written)) {
			t.Fatalf("seed %d, round %d: %d of %d bytes of %q came back (%s, truncated: %v)",
				seed, round, len(got.Stdout), len(kept), alphabet, got.Encoding, got.StdoutTruncated)
		}
		if !utf8.Valid(kept) && got.Encoding == "utf-8" {
			t.Fatalf("seed %d, round %d: broken text came as utf-8", seed, round)
		}
	}
}

func decodeCollected(t *testing.T, text, encoding string) []byte {
	t.Helper()
	if encoding == "utf-8" {
		return []byte(text)
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestEncodingOfTextThatEscapesWouldExpand(t *testing.T) {
	for _, c := range []struct {
		name, output, want string
	}{
		{"short control characters", strings.Repeat("\x00", 1000), "utf-8"},
		{"long control characters", strings.Repeat("\x00", 1<<20), "base64"},
		{"long colours", strings.Repeat("\x1b[0m", 1<<18), "base64"},
		{"long newlines", strings.Repeat("\n", 1<<20), "utf-8"},
		{"long text", strings.Repeat("a line of \"text\"\n", 1<<16), "utf-8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, path := execWorld(t)
			w.fake.exec = says(control.ExecResult{}, nil, "2:"+c.output)
			a := w.want(w.call("POST", path, `{"cmd":"x"}`), http.StatusOK)
			got := decode[execAnswer](w, a)
			if got.Encoding != c.want || string(decodeCollected(t, got.Stderr, got.Encoding)) != c.output {
				t.Errorf("%s, %d bytes, want %s and %d bytes", got.Encoding, len(got.Stderr), c.want, len(c.output))
			}
			if len(a.body) > 2*len(c.output)+8<<10 {
				t.Errorf("%d bytes of output made an answer of %d bytes", len(c.output), len(a.body))
			}
		})
	}
}

// TestOutputBudget has 16 commands write 6 MiB of NUL at once against a budget
// of 6 MiB: memory stays within it, every command ends, and all of the budget
// comes back.
func TestOutputBudget(t *testing.T) {
	const budget, commands, size = 6 << 20, 16, 6 << 20
	w, path := execWorld(t, func(c *Config) { c.OutputBudgetBytes = budget })
	outputs := newOutputBudget(budget)
	piece := make([]byte, 32<<10)
	var ready, done sync.WaitGroup
	ready.Add(commands)
	hold := make(chan struct{})
	var kept [commands]int
	for i := range commands {
		done.Go(func() {
			sink := &collector{limit: size, budget: outputs}
			if err := sink.reserve(); err != nil {
				t.Error(err)
			}
			for range size / len(piece) {
				_ = sink.Stdout(piece)
			}
			out := sink.output(0)
			kept[i] = out.stdout.size
			if !out.StdoutTruncated || out.stdout.size < firstChunk {
				t.Errorf("kept %d bytes, truncated: %v; the budget cannot hold all", out.stdout.size, out.StdoutTruncated)
			}
			ready.Done()
			<-hold
			sink.release()
		})
	}
	ready.Wait()
	total := 0
	for _, n := range kept {
		total += n
	}
	if total > budget || total < budget/2 {
		t.Errorf("%d bytes are kept; the budget is %d", total, budget)
	}
	close(hold)
	done.Wait()
	if free := outputs.free.Load(); free != budget {
		t.Errorf("%d of %d bytes came back", free, budget)
	}

	// The server itself gives everything back as well, after every kind of end: the budget
	// has room for the output of one command.
	zeros := "1:" + strings.Repeat("\x00", budget*5/8)
	for _, end := range []error{nil, errExecTimeout, nil} {
		w.fake.exec = says(control.ExecResult{}, end, zeros)
		a := w.call("POST", path, `{"cmd":"x"}`)
		if end != nil {
			w.want(a, http.StatusGatewayTimeout)
		} else if got := decode[execAnswer](w, w.want(a, http.StatusOK)); got.StdoutTruncated {
			t.Fatal("a command alone was truncated: the budget does not come back")
		}
	}
}

func TestCommandsBeyondTheBudgetAreRefusedBeforeTheyRun(t *testing.T) {
	w, path := execWorld(t, func(c *Config) { c.OutputBudgetBytes = 2*firstChunk + 1 })
	started, proceed := make(chan struct{}), make(chan struct{})
	ran := 0
	w.fake.exec = func(context.Context, control.Exec, control.ExecSink) (control.ExecResult, error) {
		ran++
		close(started)
		<-proceed
		return control.ExecResult{}, nil
	}
	first := make(chan answer)
	go func() { first <- w.call("POST", path, `{"cmd":"x"}`) }()
	<-started
	a := w.want(w.call("POST", path, `{"cmd":"x"}`), http.StatusServiceUnavailable)
	if got := a.fault(w); got.Code != "output_budget_exhausted" || a.Header.Get("Retry-After") == "" {
		t.Errorf("got %+v with Retry-After %q", got, a.Header.Get("Retry-After"))
	}
	close(proceed)
	w.want(<-first, http.StatusOK)
	if ran != 1 {
		t.Errorf("%d commands ran, want 1", ran)
	}
}

// TestAnswerNeedsNoMemoryBesideTheOutput encodes 8 MiB of NUL bytes and counts the
// allocated memory.
func TestAnswerNeedsNoMemoryBesideTheOutput(t *testing.T) {
	for _, filler := range []string{"\x00", "a", "é"} {
		sink := &collector{limit: 8 << 20, budget: newOutputBudget(16 << 20)}
		if err := sink.Stdout([]byte(strings.Repeat(filler, 8<<20/len(filler)))); err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		writeOutput(discardResponse{}, pace{http.NewResponseController(discardResponse{}), 0}, 200, execJSON{}, "}", sink.output(0))
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > 24<<20 {
			t.Errorf("%q: %d bytes were allocated in all", filler, got)
		}
	}
}

// discardResponse is a http.ResponseWriter that keeps nothing.
type discardResponse struct{}

func (discardResponse) Header() http.Header         { return http.Header{} }
func (discardResponse) Write(p []byte) (int, error) { return len(p), nil }
func (discardResponse) WriteHeader(int)             {}

func BenchmarkCollectedAnswer(b *testing.B) {
	for _, filler := range []string{"\x00", "a"} {
		b.Run(fmt.Sprintf("%q", filler), func(b *testing.B) {
			b.SetBytes(8 << 20)
			piece := bytes.Repeat([]byte(filler), 32<<10)
			for b.Loop() {
				sink := &collector{limit: 8 << 20, budget: newOutputBudget(16 << 20)}
				for range 8 << 20 / len(piece) {
					_ = sink.Stdout(piece)
				}
				writeOutput(discardResponse{}, pace{http.NewResponseController(discardResponse{}), 0}, 200, execJSON{}, "}", sink.output(0))
			}
		})
	}
}
