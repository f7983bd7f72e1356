package e2b

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

const (
	// maxLogs is the largest number of entries of one answer, and the number without a limit.
	maxLogs = 1000
	// maxSearch is the longest text to search for, in bytes.
	maxSearch = 256
)

// logEntryJSON is the schema SandboxLogEntry.
type logEntryJSON struct {
	Timestamp time.Time         `json:"timestamp"`
	Message   string            `json:"message"`
	Level     string            `json:"level"`
	Fields    map[string]string `json:"fields"`
}

// lineJSON is the schema SandboxLog. Line is a JSON object, which the command-line client
// parses.
type lineJSON struct {
	Timestamp time.Time `json:"timestamp"`
	Line      string    `json:"line"`
}

// lineOf returns e as the line of a log of v1: its fields, level and message in one object.
func lineOf(e logEntryJSON) lineJSON {
	fields := map[string]string{"level": e.Level, "message": e.Message}
	for name, value := range e.Fields {
		fields[name] = value
	}
	line, _ := json.Marshal(fields) // a map of strings has a form
	return lineJSON{e.Timestamp, string(line)}
}

// logsV1 answers with the log of a sandbox from a time on.
func (s *server) logsV1(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	start, err := countOf(q, "start")
	if err != nil {
		return err
	}
	limit, err := logLimitOf(q)
	if err != nil {
		return err
	}
	entries, err := s.logOf(r)
	if err != nil {
		return err
	}
	page := logQuery{from: start, to: math.MaxInt64, level: levels[0], limit: limit}.of(entries)
	lines := make([]lineJSON, len(page))
	for i, e := range page {
		lines[i] = lineOf(e)
	}
	writeJSON(w, http.StatusOK, map[string]any{"logs": lines, "logEntries": page})
	return nil
}

// logsV2 answers with a page of the log of a sandbox.
func (s *server) logsV2(w http.ResponseWriter, r *http.Request) error {
	query, err := logQueryOf(r.URL.Query())
	if err != nil {
		return err
	}
	entries, err := s.logOf(r)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, map[string]any{"logs": query.of(entries)})
	return nil
}

// logQuery selects entries of a log.
type logQuery struct {
	// from and to are the first and the last time, in milliseconds since 1970.
	from, to int64
	// backward selects the newest entries, the newest first.
	backward bool
	// level is the lowest level, search a part of the message.
	level, search string
	limit         int
}

// logQueryOf returns the query of v2. A cursor is the time at which the page starts, in
// milliseconds since 1970.
func logQueryOf(q url.Values) (out logQuery, err error) {
	out = logQuery{to: math.MaxInt64, search: q.Get("search")}
	if len(out.search) > maxSearch {
		return out, invalid("search may have at most %d bytes", maxSearch)
	}
	if out.limit, err = logLimitOf(q); err != nil {
		return out, err
	}
	if out.level, err = levelOf(q); err != nil {
		return out, err
	}
	cursor, err := countOf(q, "cursor")
	if err != nil {
		return out, err
	}
	switch q.Get("direction") {
	case "", "forward":
		out.from = cursor
	case "backward":
		if out.backward = true; q.Has("cursor") {
			out.to = cursor
		}
	default:
		return out, invalid("direction must be forward or backward")
	}
	return out, nil
}

// logLimitOf returns the number of entries of an answer.
func logLimitOf(q url.Values) (int, error) {
	if !q.Has("limit") {
		return maxLogs, nil
	}
	n, err := strconv.Atoi(q.Get("limit"))
	if err != nil || n < 1 {
		return 0, invalid("limit must be from 1 to %d", maxLogs)
	}
	return min(n, maxLogs), nil
}

// of returns the entries that q selects of those of a log, which are in order.
func (q logQuery) of(entries []logEntryJSON) []logEntryJSON {
	out := make([]logEntryJSON, 0, len(entries))
	for _, e := range entries {
		at := e.Timestamp.UnixMilli()
		if q.from <= at && at <= q.to && reaches(e.Level, q.level) && strings.Contains(e.Message, q.search) {
			out = append(out, e)
		}
	}
	if q.backward {
		slices.Reverse(out)
	}
	return out[:min(len(out), q.limit)]
}

// logOf returns the log of the sandbox of r's path, the oldest entry first: its life-cycle,
// and the starts and ends of processes and commands if it runs. It never resumes the sandbox. The log
// of a sandbox that has ended can be read as long as its row is kept.
func (s *server) logOf(r *http.Request) ([]logEntryJSON, error) {
	id, err := sandboxID(r)
	if err != nil {
		return nil, err
	}
	row, err := s.Sandboxes.Get(r.Context(), id)
	if fault.Is(err, fault.NotFound) {
		return nil, noSandbox(string(id))
	}
	if err != nil {
		return nil, err
	}
	entries := lifeLog(row)
	if row.State == sandbox.Running {
		processes, err := s.listProcesses(r, id)
		if err != nil {
			return nil, err
		}
		for _, p := range processes {
			entries = append(entries, processLog(p)...)
		}
	}
	slices.SortStableFunc(entries, func(a, b logEntryJSON) int { return a.Timestamp.Compare(b.Timestamp) })
	return entries, nil
}

// listProcesses returns the processes and the newest commands of a running sandbox; none if it has been paused or
// has ended since its row was read, or if its guest is of a version without processes.
func (s *server) listProcesses(r *http.Request, id sandbox.ID) ([]control.Process, error) {
	ctx, cancel := context.WithTimeout(r.Context(), sampleTimeout)
	defer cancel()
	processes, err := s.Sandboxes.CallProcess(ctx, id, control.ProcessList{Passive: true, Commands: true})
	switch {
	case fault.Is(err, fault.WrongState) || fault.Is(err, fault.Unsupported):
		return nil, nil
	case fault.Is(err, fault.HostFailed) || fault.Is(err, fault.Timeout):
		return nil, fault.Wrap(err, fault.Unavailable, "guest_unresponsive", "the guest of sandbox %s did not list its processes; try again", id)
	}
	return processes, err
}
