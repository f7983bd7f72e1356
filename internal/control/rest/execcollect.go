package rest

import (
	"encoding/base64"
	"net/http"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// outputJSON is what a command wrote: part of the schema ExecResponse, and the
// schema ErrorDetails.
type outputJSON struct {
	Stdout          string `json:"stdout"`
	Stderr          string `json:"stderr"`
	DurationMS      int64  `json:"duration_ms"`
	Encoding        string `json:"encoding"`
	StdoutTruncated bool   `json:"stdout_truncated"`
	StderrTruncated bool   `json:"stderr_truncated"`
}

// execJSON is the schema ExecResponse.
type execJSON struct {
	SandboxID string  `json:"sandbox_id"`
	Cmd       string  `json:"cmd"`
	ExitCode  int     `json:"exit_code"`
	Signal    *string `json:"signal"`
	// TimeoutSec is the lifetime that the command had.
	TimeoutSec int64 `json:"timeout_sec"`
	outputJSON
}

// collectExec answers with the whole output once the command has ended.
func (s *server) collectExec(w http.ResponseWriter, r *http.Request, id sandbox.ID, e control.Exec) {
	begin := time.Now()
	sink := &collector{limit: s.MaxOutputBytes}
	result, err := s.Sandboxes.Exec(r.Context(), id, e, sink)
	if err != nil {
		var partial *outputJSON
		if fault.ReasonOf(err) == reasonExecTimeout {
			out := sink.output(time.Since(begin))
			partial = &out
		}
		s.failWith(w, r, err, partial)
		return
	}
	writeJSON(w, http.StatusOK, execJSON{
		SandboxID:  string(id),
		Cmd:        e.Cmd,
		ExitCode:   result.ExitCode,
		Signal:     nullable(result.Signal),
		TimeoutSec: int64(e.Timeout / time.Second),
		outputJSON: sink.output(result.Duration),
	})
}

// collector is a control.ExecSink that keeps the head of each stream and takes
// the rest without keeping it, so that a talkative command still ends by
// itself.
type collector struct {
	limit int

	mu             sync.Mutex // protects the following
	stdout, stderr head
}

// Stdout implements control.ExecSink.
func (c *collector) Stdout(p []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stdout.add(p, c.limit)
	return nil
}

// Stderr implements control.ExecSink.
func (c *collector) Stderr(p []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stderr.add(p, c.limit)
	return nil
}

// output returns what was kept, both streams in one encoding.
func (c *collector) output(took time.Duration) outputJSON {
	c.mu.Lock()
	defer c.mu.Unlock()
	stdout, stderr := c.stdout.bytes(), c.stderr.bytes()
	out := outputJSON{
		DurationMS:      took.Milliseconds(),
		Encoding:        "utf-8",
		StdoutTruncated: c.stdout.truncated,
		StderrTruncated: c.stderr.truncated,
	}
	if utf8.Valid(stdout) && utf8.Valid(stderr) {
		out.Stdout, out.Stderr = string(stdout), string(stderr)
		return out
	}
	out.Encoding = "base64"
	out.Stdout = base64.StdEncoding.EncodeToString(stdout)
	out.Stderr = base64.StdEncoding.EncodeToString(stderr)
	return out
}

// head is the beginning of a stream.
type head struct {
	kept      []byte
	truncated bool
}

func (h *head) add(p []byte, limit int) {
	if room := limit - len(h.kept); len(p) > room {
		p, h.truncated = p[:room], true
	}
	h.kept = append(h.kept, p...)
}

// bytes returns what was kept. A character that the limit cut in two is left
// out, so that text stays text.
func (h *head) bytes() []byte {
	if !h.truncated {
		return h.kept
	}
	return h.kept[:len(h.kept)-len(partialRune(h.kept))]
}

// partialRune returns the end of p that may be the beginning of a UTF-8
// character; it is empty when p ends with a whole one, or with no UTF-8.
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
