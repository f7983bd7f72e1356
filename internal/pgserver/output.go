package pgserver

import (
	"bufio"
	"context"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

const (
	// maxLine bounds a line of the server's output; the rest is dropped.
	maxLine = 4 << 10
	// keptLines is how many lines are kept for the error of a failed start.
	keptLines = 5
	// outputGrace is how long output may lag behind the server's end. More
	// comes only from a stray child that still holds the pipe.
	outputGrace = time.Second
)

// output copies the server's messages into the log.
type output struct {
	reader, writer *os.File
	done           chan struct{} // closed when the reading goroutine has ended

	mu   sync.Mutex // protects the following
	kept []string
}

func newOutput(log *slog.Logger) (*output, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "postgres_output", "cannot make a pipe for PostgreSQL's output")
	}
	o := &output{reader: r, writer: w, done: make(chan struct{})}
	go o.copyTo(log)
	return o, nil
}

// writerInherited closes our copy of the end that the server writes to, so
// that its own end is seen.
func (o *output) writerInherited() { _ = o.writer.Close() }

// close waits until everything printed has been logged. Later calls do
// nothing.
func (o *output) close() {
	_ = o.reader.SetReadDeadline(time.Now().Add(outputGrace))
	<-o.done
	_ = o.reader.Close()
}

// last returns the last lines printed.
func (o *output) last() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]string(nil), o.kept...)
}

func (o *output) copyTo(log *slog.Logger) {
	defer close(o.done)
	in := bufio.NewReaderSize(o.reader, maxLine)
	skip := false // the line's first part has been logged
	for {
		part, more, err := in.ReadLine()
		if err != nil {
			return
		}
		if !skip {
			o.log(log, strings.TrimSpace(string(part)))
		}
		skip = more
	}
}

func (o *output) log(log *slog.Logger, line string) {
	o.mu.Lock()
	o.kept = append(o.kept, line)
	o.kept = o.kept[max(0, len(o.kept)-keptLines):]
	o.mu.Unlock()
	log.Log(context.Background(), levelOf(line), "postgres", "line", line)
}

// levelOf maps the severity that starts a line (PostgreSQL manual, table
// "Message Severity Levels") to ours. An ERROR concerns one statement, and its
// sender has got it as an answer.
func levelOf(line string) slog.Level {
	severity, _, _ := strings.Cut(line, ":")
	switch severity {
	case "PANIC":
		return slog.LevelError
	case "FATAL", "WARNING":
		return slog.LevelWarn
	default:
		return slog.LevelDebug
	}
}
