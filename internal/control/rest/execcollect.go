package rest

import (
	"net/http"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// outputJSON is the output of a command without the two streams, which
// writeOutput adds: part of the schema ExecResponse, and the schema
// ErrorDetails.
type outputJSON struct {
	DurationMS      int64  `json:"duration_ms"`
	Encoding        string `json:"encoding"`
	StdoutTruncated bool   `json:"stdout_truncated"`
	StderrTruncated bool   `json:"stderr_truncated"`
}

// output is the collected output of a command.
type output struct {
	outputJSON
	stdout, stderr *outputHead
}

// execJSON is the schema ExecResponse without the two streams.
type execJSON struct {
	SandboxID string  `json:"sandbox_id"`
	Cmd       string  `json:"cmd"`
	ExitCode  int     `json:"exit_code"`
	Signal    *string `json:"signal"`
	OOM       bool    `json:"oom"`
	// TimeoutSec is the timeout of the command, in seconds.
	TimeoutSec int64 `json:"timeout_sec"`
	outputJSON
}

// collectExec answers with the whole output once the command has ended.
func (s *server) collectExec(w http.ResponseWriter, r *http.Request, id sandbox.ID, e control.Exec) {
	sink := &collector{limit: s.MaxOutputBytes, budget: s.outputs}
	if err := sink.reserve(); err != nil {
		s.fail(w, r, err)
		return
	}
	defer sink.release()
	begin := time.Now()
	result, err := s.Sandboxes.Exec(r.Context(), id, e, sink)
	if err != nil {
		err = hintCommandLine(e, err)
		var partial *output
		if fault.ReasonOf(err) == reasonExecTimeout {
			partial = sink.output(time.Since(begin))
		}
		s.failWith(w, r, err, partial)
		return
	}
	out := sink.output(result.Duration)
	writeOutput(w, s.paceOf(w), http.StatusOK, execJSON{
		SandboxID:  string(id),
		Cmd:        e.Cmd,
		ExitCode:   result.ExitCode,
		Signal:     nullable(result.Signal),
		OOM:        result.OutOfMemory,
		TimeoutSec: int64(e.Timeout / time.Second),
		outputJSON: out.outputJSON,
	}, "}", out)
}

// collector is a control.ExecSink that keeps the head of each stream and drops
// the rest, so that a command with much output still ends by itself.
//
// reserve comes before the command, release after the answer. An abandoned
// command may still write between output and release; the sealed collector
// drops that output.
type collector struct {
	limit  int
	budget *outputBudget

	mu             sync.Mutex // protects the following
	stdout, stderr outputHead
	held           int64 // bytes of the budget
	sealed         bool
}

// errBusy refuses a command whose output could not be kept.
var errBusy = fault.New(fault.NoCapacity, "output_budget_exhausted",
	"the server has reached its limit of collected command output; try again, or stream the output with Accept: application/x-ndjson")

// reserve takes the part of the budget that every command has for itself. It
// fails with NoCapacity, before the command runs.
func (c *collector) reserve() error {
	if !c.budget.begin(2 * firstChunk) {
		return errBusy
	}
	c.held = 2 * firstChunk
	return nil
}

// release returns the collector's part of the budget.
func (c *collector) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sealed = true
	c.budget.give(c.held)
	c.held = 0
}

// grow takes n bytes more of the budget.
func (c *collector) grow(n int64) bool {
	if !c.budget.grow(n) {
		return false
	}
	c.held += n
	return true
}

// Stdout implements control.ExecSink.
func (c *collector) Stdout(p []byte) error { return c.add(&c.stdout, p) }

// Stderr implements control.ExecSink.
func (c *collector) Stderr(p []byte) error { return c.add(&c.stderr, p) }

func (c *collector) add(h *outputHead, p []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.sealed {
		h.add(p, c.limit, c.grow)
	}
	return nil
}

// output returns the collected bytes, both streams in one encoding, and seals the
// collector.
func (c *collector) output(took time.Duration) *output {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sealed = true
	c.stdout.trim()
	c.stderr.trim()
	return &output{
		outputJSON: outputJSON{
			DurationMS:      took.Milliseconds(),
			Encoding:        encodingOf(&c.stdout, &c.stderr),
			StdoutTruncated: c.stdout.truncated,
			StderrTruncated: c.stderr.truncated,
		},
		stdout: &c.stdout, stderr: &c.stderr,
	}
}

// partialRune returns the end of p that may be the beginning of a UTF-8
// character. It is empty if p ends with a whole character, or with bytes that
// are not UTF-8.
func partialRune(p []byte) []byte {
	for i := len(p) - 1; i >= 0 && i >= len(p)-utf8.UTFMax; i-- {
		if !utf8.RuneStart(p[i]) {
			continue
		}
		if utf8.FullRune(p[i:]) {
			return nil
		}
		return p[i:]
	}
	return nil
}
