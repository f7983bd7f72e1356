package gvisor

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// consoleBytes is the size of the console's tail that is kept.
const consoleBytes = 64 << 10

// console collects the output of the guest's first process, and the messages of
// runsc, which shares it. The guest can write without bound. The output goes to a
// FIFO, which holds little, and of which a later agent reads the rest: without a
// reader, the guest's writers wait.
type console struct {
	reader *os.File
	report *report

	mu   sync.Mutex // protects the following
	tail []byte
}

func consolePath(dir string) string { return filepath.Join(dir, "console") }

// openConsole opens the console of the sandbox in dir, and the report of its sentry,
// and begins to read them. The caller closes it.
func openConsole(dir string) (*console, error) {
	reader, err := openFIFO(consolePath(dir))
	if err != nil {
		return nil, err
	}
	report, err := openReport(dir)
	if err != nil {
		return nil, errors.Join(err, reader.Close())
	}
	c := &console{reader: reader, report: report}
	go c.read()
	return c, nil
}

// openFIFO opens the FIFO at path for reading, which it makes if it is not there.
func openFIFO(path string) (*os.File, error) {
	if err := unix.Mkfifo(path, 0o600); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, &os.PathError{Op: "mkfifo", Path: path, Err: err}
	}
	// Open for writing as well, so that the end of a writer is not the end of the
	// FIFO.
	return os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
}

// read keeps the tail until the console is closed.
func (c *console) read() {
	_, _ = io.Copy(c, c.reader)
}

// Write implements io.Writer.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tail = append(c.tail, p...)
	if over := len(c.tail) - consoleBytes; over > 0 {
		c.tail = append(c.tail[:0], c.tail[over:]...)
	}
	return len(p), nil
}

// last returns the last bytes.
func (c *console) last() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]byte(nil), c.tail...)
}

func (c *console) close() {
	_ = c.reader.Close()
	_ = c.report.reader.Close()
}

// writer opens the end for a sandbox. Open for reading as well, so that its writes
// do not fail while there is no agent.
func (c *console) writer(dir string) (*os.File, error) {
	return os.OpenFile(consolePath(dir), os.O_RDWR, 0)
}

// Console implements vmm.VM.
func (v *vm) Console(context.Context) ([]byte, error) { return v.console.last(), nil }
