package rest

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/wrenn-dev/wrenn/api/types"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

const (
	// maxProcessInput bounds one write to the input of a process, in bytes.
	maxProcessInput = 1 << 20
	// maxWaitSec and defaultWaitSec are of a wait for the end of a process.
	maxWaitSec, defaultWaitSec = 600, 30
	// minJournal and maxJournal bound the output that is kept of a process, in bytes.
	minJournal, maxJournal = 32 << 10, 16 << 20
	// maxTerminal is the largest width and height of a terminal, in characters.
	maxTerminal = 65535

	eventStream = "text/event-stream"
	octetStream = "application/octet-stream"

	onFullTruncate, onFullBlock = "truncate", "block"
)

// startProcess starts a process, and attaches the caller to it if the caller asks for
// events.
func (s *server) startProcess(w http.ResponseWriter, r *http.Request) {
	id, err := idOf(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	start, err := readProcessStart(w, r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	ps, err := s.Sandboxes.CallProcess(r.Context(), id, start)
	if err != nil {
		s.fail(w, r, hintCommandLine(start.Command, err))
		return
	}
	requestOf(r.Context()).effective.Store(true)
	if strings.Contains(r.Header.Get("Accept"), eventStream) {
		s.streamProcess(w, r, id, control.ProcessAttach{ID: start.ID, AutoAck: true})
		return
	}
	w.Header().Set("Location", "/v1/sandboxes/"+string(id)+"/processes/"+string(start.ID))
	writeJSON(w, http.StatusCreated, processJSON(ps[0]))
}

// readProcessStart reads a ProcessRequest.
func readProcessStart(w http.ResponseWriter, r *http.Request) (control.ProcessStart, error) {
	start := control.ProcessStart{ID: control.NewProcessID()}
	var timeoutSec, journal, cols, rows int
	var pty *bool
	onFull := onFullTruncate
	err := readJSON(w, r, fields{
		"cmd": &start.Command.Cmd, "args": &start.Command.Args, "env": &start.Command.Env,
		"cwd": &start.Command.Cwd, "user": &start.Command.User, "stdin": &start.Stdin,
		"pty": &pty, "cols": &cols, "rows": &rows,
		"timeout_sec": &timeoutSec, "on_full": &onFull, "journal_bytes": &journal,
	})
	if err != nil {
		return start, err
	}
	if pty != nil && *pty {
		start.Terminal = &control.TerminalSize{Cols: orDefault(cols, 80), Rows: orDefault(rows, 24)}
	}
	start.Command.Timeout = time.Duration(timeoutSec) * time.Second
	start.Block, start.JournalBytes = onFull == onFullBlock, journal
	switch {
	case timeoutSec < 0 || timeoutSec > MaxExecTimeoutSec:
		return start, fault.New(fault.Invalid, "invalid_timeout", "timeout_sec must be from 0 to %d; 0 means no limit", MaxExecTimeoutSec)
	case onFull != onFullTruncate && onFull != onFullBlock:
		return start, fault.New(fault.Invalid, "invalid_on_full", "on_full must be truncate or block")
	case journal != 0 && (journal < minJournal || journal > maxJournal):
		return start, fault.New(fault.Invalid, "invalid_journal", "journal_bytes must be from %d to %d", minJournal, maxJournal)
	case start.Terminal == nil && (cols != 0 || rows != 0):
		return start, fault.New(fault.Invalid, "invalid_size", "cols and rows are of a terminal; set pty to true")
	case start.Terminal != nil && !validSize(*start.Terminal):
		return start, errSize
	}
	return start, validateExec(start.Command)
}

func orDefault(n, fallback int) int {
	if n == 0 {
		return fallback
	}
	return n
}

var errSize = fault.New(fault.Invalid, "invalid_size", "cols and rows must be from 1 to %d", maxTerminal)

func validSize(t control.TerminalSize) bool {
	return t.Cols >= 1 && t.Cols <= maxTerminal && t.Rows >= 1 && t.Rows <= maxTerminal
}

// listProcesses answers with the processes of a sandbox.
func (s *server) listProcesses(w http.ResponseWriter, r *http.Request) {
	id, err := idOf(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	ps, err := s.Sandboxes.CallProcess(r.Context(), id, control.ProcessList{})
	if err != nil {
		s.fail(w, r, err)
		return
	}
	out := make([]types.Process, 0, len(ps))
	for _, p := range ps {
		out = append(out, processJSON(p))
	}
	writeJSON(w, http.StatusOK, out)
}

// onProcess does the operation that read returns on the process that r names, and
// answers with the process.
func (s *server) onProcess(w http.ResponseWriter, r *http.Request, read func(control.ProcessID) (control.ProcessCall, error)) {
	id, process, err := processOf(r)
	var call control.ProcessCall
	if err == nil {
		call, err = read(process)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	ctx, cancel := r.Context(), context.CancelFunc(func() {})
	if _, waits := call.(control.ProcessGet); waits {
		ctx, cancel = untilStopping(r)
	}
	defer cancel()
	ps, err := s.Sandboxes.CallProcess(ctx, id, call)
	if err != nil {
		s.fail(w, r, withCause(ctx, err))
		return
	}
	writeJSON(w, http.StatusOK, processJSON(ps[0]))
}

// processOf returns the ids in the path.
func processOf(r *http.Request) (sandbox.ID, control.ProcessID, error) {
	id, err := idOf(r)
	if err != nil {
		return "", "", err
	}
	process, err := control.ParseProcessID(chi.URLParam(r, "process"))
	return id, process, err
}

func (s *server) getProcess(w http.ResponseWriter, r *http.Request) {
	s.onProcess(w, r, func(id control.ProcessID) (control.ProcessCall, error) { return control.ProcessGet{ID: id}, nil })
}

// waitProcess answers once the process has ended, or after a while.
func (s *server) waitProcess(w http.ResponseWriter, r *http.Request) {
	s.onProcess(w, r, func(id control.ProcessID) (control.ProcessCall, error) {
		sec, err := intParam(r, "timeout_sec", defaultWaitSec)
		if err != nil || sec < 0 || sec > maxWaitSec {
			return nil, fault.New(fault.Invalid, "invalid_timeout", "timeout_sec must be from 0 to %d", maxWaitSec)
		}
		return control.ProcessGet{ID: id, Wait: time.Duration(sec) * time.Second}, nil
	})
}

// intParam returns a whole number among the query parameters.
func intParam(r *http.Request, name string, absent int64) (int64, error) {
	q, err := readQuery(r)
	if err != nil || !q.Has(name) {
		return absent, err
	}
	given, err := one(q, name)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(given, 10, 64)
}

// writeProcess gives the body to a process as its input.
func (s *server) writeProcess(w http.ResponseWriter, r *http.Request) {
	s.onProcess(w, r, func(id control.ProcessID) (control.ProcessCall, error) {
		if typ, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); r.Header.Get("Content-Type") != "" && (err != nil || typ != octetStream) {
			return nil, withStatus(http.StatusUnsupportedMediaType,
				fault.New(fault.Invalid, "unsupported_media_type", "this operation takes the input itself as its body, with Content-Type: %s", octetStream))
		}
		q, err := readQuery(r)
		if err != nil {
			return nil, err
		}
		end, err := one(q, "close")
		if err != nil || end != "" && end != "true" && end != "false" {
			return nil, fault.New(fault.Invalid, "invalid_query", "close must be true or false")
		}
		data, err := s.readInput(w, r)
		return control.ProcessInput{ID: id, Data: data, Close: end == "true"}, err
	})
}

// readInput reads a body of at most maxProcessInput bytes.
func (s *server) readInput(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	data, err := io.ReadAll(http.MaxBytesReader(w, io.NopCloser(pacedReader{r.Body, s.paceOf(w)}), maxProcessInput))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, fault.Wrap(err, fault.TooLarge, "body_too_large", "one write may have at most %d bytes", maxProcessInput)
	}
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "body_incomplete", "the body did not arrive whole; the process got none of it")
	}
	return data, nil
}

func (s *server) closeProcessStdin(w http.ResponseWriter, r *http.Request) {
	s.onProcess(w, r, func(id control.ProcessID) (control.ProcessCall, error) {
		return control.ProcessInput{ID: id, Close: true}, nil
	})
}

func (s *server) signalProcess(w http.ResponseWriter, r *http.Request) {
	s.onProcess(w, r, func(id control.ProcessID) (control.ProcessCall, error) {
		name, all := "", false
		if err := readJSON(w, r, fields{"signal": &name, "all": &all}); err != nil {
			return nil, err
		}
		number, ok := signals[strings.TrimPrefix(name, "SIG")]
		if !ok {
			return nil, errSignal
		}
		return control.ProcessSignal{ID: id, Number: number, All: all}, nil
	})
}

var errSignal = fault.New(fault.Invalid, "invalid_signal", "signal must be the name of a signal of Linux, such as SIGTERM, SIGKILL or SIGINT")

// signals are the signals of Linux on x86-64 and arm64 by name (signal(7)).
var signals = map[string]int{
	"HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "TRAP": 5, "ABRT": 6, "BUS": 7, "FPE": 8, "KILL": 9, "USR1": 10, "SEGV": 11,
	"USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15, "STKFLT": 16, "CHLD": 17, "CONT": 18, "STOP": 19, "TSTP": 20, "TTIN": 21,
	"TTOU": 22, "URG": 23, "XCPU": 24, "XFSZ": 25, "VTALRM": 26, "PROF": 27, "WINCH": 28, "IO": 29, "PWR": 30, "SYS": 31,
}

func (s *server) resizeProcess(w http.ResponseWriter, r *http.Request) {
	s.onProcess(w, r, func(id control.ProcessID) (control.ProcessCall, error) {
		var size control.TerminalSize
		if err := readJSON(w, r, fields{"cols": &size.Cols, "rows": &size.Rows}); err != nil {
			return nil, err
		}
		if !validSize(size) {
			return nil, errSize
		}
		return control.ProcessResize{ID: id, Size: size}, nil
	})
}

func (s *server) ackProcess(w http.ResponseWriter, r *http.Request) {
	s.onProcess(w, r, func(id control.ProcessID) (control.ProcessCall, error) {
		offset := -1
		if err := readJSON(w, r, fields{"offset": &offset}); err != nil {
			return nil, err
		}
		if offset < 0 {
			return nil, errOffset
		}
		return control.ProcessAck{ID: id, Offset: int64(offset)}, nil
	})
}

var errOffset = fault.New(fault.Invalid, "invalid_offset", "offset must be a number of bytes of output, 0 or more")

// processJSON returns p as the API describes it.
func processJSON(p control.Process) types.Process {
	out := types.Process{
		ID: string(p.ID), Cmd: p.Cmd, Args: p.Args, ArgsTruncated: p.ArgsTruncated, Cwd: p.Cwd, User: p.User,
		Stdin: p.Stdin, PTY: p.Terminal, OnFull: onFullTruncate, JournalBytes: p.JournalBytes,
		Status: "running", StartedAt: p.StartedAt.UTC(),
		OutputStart: p.OutputStart, OutputEnd: p.OutputEnd, AcknowledgedOffset: p.Acknowledged, TruncatedBytes: p.TruncatedBytes,
	}
	if out.Args == nil {
		out.Args = []string{}
	}
	if p.Block {
		out.OnFull = onFullBlock
	}
	if e := p.Exit; e != nil {
		out.Status, out.EndedAt, out.ExitCode, out.Signal = "exited", utc(&e.At), &e.Code, nullable(e.Signal)
		out.TimedOut, out.OOM = e.TimedOut, e.OutOfMemory
		if e.Rebooted {
			out.Rebooted = &e.Rebooted
		}
	}
	return out
}

// attachProcess streams the output of a process, over WebSocket if the caller asks for
// that, and else as events.
func (s *server) attachProcess(w http.ResponseWriter, r *http.Request) {
	id, process, err := processOf(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	a, err := readAttach(r, process)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		s.socketProcess(w, r, id, a)
		return
	}
	s.streamProcess(w, r, id, a)
}

// readAttach reads the parameters of an attach. Last-Event-ID, with which a browser
// continues a stream, has precedence over offset.
func readAttach(r *http.Request, process control.ProcessID) (control.ProcessAttach, error) {
	a := control.ProcessAttach{ID: process, AutoAck: true}
	q, err := readQuery(r)
	if err != nil {
		return a, err
	}
	switch mode, err := one(q, "ack"); {
	case err != nil:
		return a, err
	case mode == "explicit":
		a.AutoAck = false
	case mode != "" && mode != "auto":
		return a, fault.New(fault.Invalid, "invalid_query", "ack must be auto or explicit")
	}
	if a.Offset, err = intParam(r, "offset", 0); err != nil || a.Offset < -1 {
		return a, fault.New(fault.Invalid, "invalid_offset", "offset must be a number of bytes of output, or -1 for its end")
	}
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		if a.Offset, err = strconv.ParseInt(last, 10, 64); err != nil || a.Offset < 0 {
			return a, fault.New(fault.Invalid, "invalid_offset", "Last-Event-ID must be the id of an event of this process")
		}
	}
	return a, nil
}
