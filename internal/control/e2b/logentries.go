package e2b

import (
	"strconv"
	"strings"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
	"github.com/wrenn-dev/wrenn/internal/untrusted"
)

// The levels of the entries of a sandbox's log.
const (
	levelInfo  = "info"
	levelError = "error"
)

// The loggers of the entries of a sandbox's log.
const (
	loggerSandbox = "sandbox"
	loggerProcess = "process"
)

// Bounds on the texts of a guest in a log, in bytes.
const (
	maxLogCommand = 256
	maxLogUser    = 64
	maxLogID      = 48
	// maxLogReason bounds the message with which a sandbox has ended.
	maxLogReason = 512
)

// logEntryOf returns an entry. fields are pairs of a name and a value; empty values are left
// out.
func logEntryOf(at time.Time, level, logger, message string, fields ...string) logEntryJSON {
	e := logEntryJSON{Timestamp: at.UTC(), Message: message, Level: level, Fields: map[string]string{"logger": logger}}
	for i := 0; i+1 < len(fields); i += 2 {
		if fields[i+1] != "" {
			e.Fields[fields[i]] = fields[i+1]
		}
	}
	return e
}

// lifeLog returns the moments of a sandbox's life that its row has times of: its create,
// its first start, its last resume, its pause if it is paused, and its end. The clocks of
// the database and of the host differ, so that no time is before that of the moment before.
func lifeLog(row control.Sandbox) []logEntryJSON {
	info := func(at time.Time, event, message string) logEntryJSON {
		return logEntryOf(at, levelInfo, loggerSandbox, message, "event", event)
	}
	out := []logEntryJSON{info(row.CreatedAt, "created", "sandbox created")}
	if row.StartedAt != nil {
		out = append(out, info(*row.StartedAt, "started", "sandbox started"))
	}
	if report := row.RestoreReport; report != nil && report.Generation > 1 && !report.At.IsZero() {
		out = append(out, info(report.At, "resumed", "sandbox resumed"))
	}
	switch {
	case row.State == sandbox.Paused && row.DiskOnly:
		out = append(out, info(row.UpdatedAt, "paused", "sandbox paused without memory"))
	case row.State == sandbox.Paused:
		out = append(out, info(row.UpdatedAt, "paused", "sandbox paused"))
	case row.State.Ended() && row.EndedAt != nil:
		out = append(out, endLog(row))
	}
	for i := 1; i < len(out); i++ {
		if before := out[i-1].Timestamp; out[i].Timestamp.Before(before) {
			out[i].Timestamp = before
		}
	}
	return out
}

// endLog returns the entry of the end of a sandbox.
func endLog(row control.Sandbox) logEntryJSON {
	message, level := "sandbox ended", levelInfo
	if row.StopReason != "" {
		message += ", reason " + string(row.StopReason)
	}
	if cause := untrusted.Line(row.Message, maxLogReason); cause != "" {
		message += ": " + cause
	}
	if row.State == sandbox.Error {
		level = levelError
	}
	return logEntryOf(*row.EndedAt, level, loggerSandbox, message, "event", "ended", "reason", string(row.StopReason))
}

// processLog returns the start of a process, and its end if it has ended. The guest wrote
// all of p.
func processLog(p control.Process) []logEntryJSON {
	command := strings.Join(append([]string{p.Cmd}, p.Args...), " ")
	if p.ArgsTruncated {
		command += " …"
	}
	command = untrusted.Line(command, maxLogCommand)
	fields := []string{
		"process", untrusted.Line(string(p.ID), maxLogID), "user", untrusted.Line(p.User, maxLogUser), "command", command,
	}
	out := []logEntryJSON{logEntryOf(p.StartedAt, levelInfo, loggerProcess, "process started: "+command, append(fields, "event", "started")...)}
	if p.Exit == nil {
		return out
	}
	level := levelInfo
	if p.Exit.Code != 0 || p.Exit.Signal != "" || p.Exit.TimedOut || p.Exit.OutOfMemory {
		level = levelError
	}
	fields = append(fields, "event", "ended", "exit_code", strconv.Itoa(p.Exit.Code), "signal", p.Exit.Signal)
	return append(out, logEntryOf(p.Exit.At, level, loggerProcess, "process ended with "+outcomeOf(*p.Exit)+": "+command, fields...))
}

// outcomeOf says how a process ended.
func outcomeOf(e control.ProcessExit) string {
	out := "exit code " + strconv.Itoa(e.Code)
	if e.Signal != "" {
		out = "signal " + e.Signal
	}
	switch {
	case e.Rebooted:
		out += " (the sandbox booted from its disk)"
	case e.TimedOut:
		out += " (its timeout was over)"
	case e.OutOfMemory:
		out += " (out of memory)"
	}
	return out
}
