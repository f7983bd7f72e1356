package e2b

import (
	"context"
	"errors"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control/templates"
)

const (
	// readLogs is the number of entries of a build's log that are read at once.
	readLogs = 1000
	// reasonLogs is the largest number of entries in the reason of a failure.
	reasonLogs = 10
)

// entryJSON is the schema BuildLogEntry.
type entryJSON struct {
	Timestamp time.Time `json:"timestamp"`
	Message   string    `json:"message"`
	Level     string    `json:"level"`
	Step      string    `json:"step,omitempty"`
}

func entriesOf(entries []templates.LogEntry) []entryJSON {
	out := make([]entryJSON, len(entries))
	for i, e := range entries {
		out[i] = entryJSON{e.At.UTC(), e.Message, e.Level, e.Step}
	}
	return out
}

// statusJSON is the schema TemplateBuildInfo. Logs is always empty.
type statusJSON struct {
	TemplateID string      `json:"templateID"`
	BuildID    string      `json:"buildID"`
	Status     string      `json:"status"`
	Logs       []string    `json:"logs"`
	LogEntries []entryJSON `json:"logEntries"`
	Reason     *reasonJSON `json:"reason,omitempty"`
}

type reasonJSON struct {
	Message    string      `json:"message"`
	Step       string      `json:"step,omitempty"`
	LogEntries []entryJSON `json:"logEntries"`
}

// buildStatus returns the status of a build and the next entries of its log. It reads the
// status first: the log of a build that has ended is whole.
func (s *server) buildStatus(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	limit, err := limitOf(q)
	if err != nil {
		return err
	}
	offset, err := countOf(q, "logsOffset")
	if err != nil {
		return err
	}
	level, err := levelOf(q)
	if err != nil {
		return err
	}
	b, err := s.buildOf(r)
	if isMissing(err) {
		return s.onlyBuild(w, r, err)
	}
	if err != nil {
		return err
	}
	out := statusJSON{TemplateID: string(b.Template), BuildID: string(b.ID), Status: string(b.Status), Logs: []string{}}
	entries, err := s.entriesAfter(r.Context(), b.ID, level, offset, limit)
	if err != nil {
		return err
	}
	if out.LogEntries = entriesOf(entries); b.Reason != nil {
		if out.Reason, err = s.reasonOf(r.Context(), b); err != nil {
			return err
		}
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

// isMissing reports whether err is a 404 of the dialect's own.
func isMissing(err error) bool {
	var own *refusal
	return errors.As(err, &own) && own.status == http.StatusNotFound
}

// onlyBuild answers for the build of an image or a snapshot, which has no log. missing is
// the answer if the path does not name it.
func (s *server) onlyBuild(w http.ResponseWriter, r *http.Request, missing error) error {
	src, err := s.named(r)
	if err != nil || src.isBuilt() || src.buildID() != param(r, "build") {
		return missing
	}
	out := templateOf(src)
	writeJSON(w, http.StatusOK, statusJSON{
		TemplateID: out.TemplateID, BuildID: out.BuildID, Status: out.BuildStatus, Logs: []string{}, LogEntries: []entryJSON{},
	})
	return nil
}

// entriesAfter returns at most limit entries of at least a level, without the first
// offset of them.
func (s *server) entriesAfter(ctx context.Context, id templates.BuildID, level string, offset int64, limit int) ([]templates.LogEntry, error) {
	if level == levels[0] { // all of them, which Seq counts
		return s.Templates.Logs(ctx, id, offset, limit)
	}
	var out []templates.LogEntry
	err := s.eachEntry(ctx, id, func(e templates.LogEntry) bool {
		switch {
		case !reaches(e.Level, level):
		case offset > 0:
			offset--
		default:
			out = append(out, e)
		}
		return len(out) < limit
	})
	return out, err
}

// eachEntry hands the entries of a log to each until that reports false.
func (s *server) eachEntry(ctx context.Context, id templates.BuildID, each func(templates.LogEntry) bool) error {
	for seq := int64(0); ; {
		page, err := s.Templates.Logs(ctx, id, seq, readLogs)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, e := range page {
			if !each(e) {
				return nil
			}
			seq = e.Seq
		}
	}
}

// reasonOf returns the reason of a failure with the last entries of its step.
func (s *server) reasonOf(ctx context.Context, b templates.Build) (*reasonJSON, error) {
	var last []templates.LogEntry
	err := s.eachEntry(ctx, b.ID, func(e templates.LogEntry) bool {
		if e.Step == b.Reason.Step {
			if last = append(last, e); len(last) > reasonLogs {
				last = last[1:]
			}
		}
		return true
	})
	return &reasonJSON{reasonText(b.Reason.Message), b.Reason.Step, entriesOf(last)}, err
}

// levels are the levels of a log, in order.
var levels = []string{"debug", "info", "warn", "error"}

// levelOf returns the lowest level that a client asks for.
func levelOf(q url.Values) (string, error) {
	level := q.Get("level")
	if level == "" {
		return levels[0], nil
	}
	if !slices.Contains(levels, level) {
		return "", invalid("level must be one of %s", strings.Join(levels, ", "))
	}
	return level, nil
}

// reaches reports whether a level is at least the lowest one.
func reaches(level, lowest string) bool {
	return slices.Index(levels, level) >= slices.Index(levels, lowest)
}

// countOf returns a parameter that is a number, 0 if it is missing.
func countOf(q url.Values, name string) (int64, error) {
	if !q.Has(name) {
		return 0, nil
	}
	n, err := strconv.ParseInt(q.Get(name), 10, 64)
	if err != nil || n < 0 {
		return 0, invalid("%s must be a number of at least 0", name)
	}
	return n, nil
}

// buildLogs returns a page of a build's log, from a time on in milliseconds of Unix time,
// or back from it.
func (s *server) buildLogs(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	limit, err := limitOf(q)
	if err != nil {
		return err
	}
	level, err := levelOf(q)
	if err != nil {
		return err
	}
	cursor, err := countOf(q, "cursor")
	if err != nil {
		return err
	}
	backward := q.Get("direction") == "backward"
	if d := q.Get("direction"); d != "" && d != "forward" && !backward {
		return invalid("direction must be forward or backward")
	}
	if backward && !q.Has("cursor") {
		cursor = math.MaxInt64
	}
	b, err := s.buildOf(r)
	if err != nil {
		return err
	}
	var page []templates.LogEntry
	err = s.eachEntry(r.Context(), b.ID, func(e templates.LogEntry) bool {
		at := e.At.UnixMilli()
		switch {
		case !reaches(e.Level, level), backward && at > cursor, !backward && at < cursor:
		default:
			page = append(page, e)
		}
		if backward && len(page) > limit {
			page = page[1:]
		}
		return backward || len(page) < limit
	})
	if err != nil {
		return err
	}
	if backward {
		slices.Reverse(page)
	}
	writeJSON(w, http.StatusOK, map[string]any{"logs": entriesOf(page)})
	return nil
}
