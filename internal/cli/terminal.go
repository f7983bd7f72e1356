package cli

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/wrenn-dev/wrenn/client"
)

// detachKeys end the use of a terminal: Ctrl-P Ctrl-Q.
const detachKeys = "\x10\x11"

// errDetached ends the use of a terminal whose process continues.
var errDetached = errors.New("detached")

// unlessDetached returns err, or nil if the user has detached.
func unlessDetached(err error) error {
	if errors.Is(err, errDetached) {
		return nil
	}
	return err
}

// terminal returns the file of this terminal, or nil if the input is none.
func (a *App) terminal() *os.File {
	f, ok := a.io.In.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return f
}

// startTerminal starts a command on a terminal of the size of t and uses it.
func (a *App) startTerminal(ctx context.Context, t *os.File, id string, req client.ProcessRequest) (*client.Process, error) {
	req.PTY = true
	if cols, rows, err := term.GetSize(int(t.Fd())); err == nil && cols > 0 && rows > 0 {
		req.Cols, req.Rows = cols, rows
	}
	env := map[string]string{"TERM": a.env("TERM", "xterm-256color")}
	maps.Copy(env, req.Env)
	req.Env = env
	return a.Client().StartProcess(ctx, id, req)
}

// useTerminal connects this terminal with the terminal of a process until the process
// ends, or until the user detaches, which is errDetached. Lost connections are made
// again.
func (a *App) useTerminal(ctx context.Context, t *os.File, id, process string, from int64) error {
	a.note("detach with Ctrl-P Ctrl-Q; attach again with: wrenn process attach %s %s", id, process)
	before, err := term.MakeRaw(int(t.Fd()))
	if err != nil {
		return &Failure{Message: "this terminal cannot be used", Hint: err.Error()}
	}
	restore := func() { _ = term.Restore(int(t.Fd()), before) }
	defer restore()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, unix.SIGWINCH)
	defer signal.Stop(resized)
	resized <- unix.SIGWINCH // the process may have another size
	go a.passSize(ctx, t, resized, id, process)
	go func() {
		if a.passKeys(ctx, t, id, process) {
			cancel(errDetached)
		}
	}()
	p, err := a.follow(ctx, id, process, from)
	restore()
	switch {
	case errors.Is(context.Cause(ctx), errDetached):
		a.note("\ndetached; the process continues")
		return errDetached
	case err != nil:
		return err
	}
	return exitOf(p)
}

// passSize gives the process the size of t at each value of resized.
func (a *App) passSize(ctx context.Context, t *os.File, resized <-chan os.Signal, id, process string) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-resized:
		}
		cols, rows, err := term.GetSize(int(t.Fd()))
		if err == nil && cols > 0 && rows > 0 {
			// A lost size is given again with the next one.
			_ = a.Client().ResizeProcess(ctx, id, process, client.TerminalSize{Cols: cols, Rows: rows})
		}
	}
}

// passKeys gives the process the input of t. It reports whether the user detached.
func (a *App) passKeys(ctx context.Context, t *os.File, id, process string) (detached bool) {
	keys, buf := detachFilter{}, make([]byte, 4096)
	for ctx.Err() == nil {
		n, err := t.Read(buf)
		typed, detached := keys.filter(buf[:n])
		if len(typed) > 0 {
			// A key that is typed while the connection is lost is lost too: to
			// send it again could type it twice.
			_ = a.Client().WriteProcess(ctx, id, process, typed)
		}
		if detached || err != nil {
			return detached
		}
	}
	return false
}

// detachFilter finds detachKeys in typed bytes. The first of them is held back until
// the next byte shows whether it belongs to them.
type detachFilter struct{ held bool }

// filter returns the bytes to pass on, up to the detach keys.
func (f *detachFilter) filter(typed []byte) (pass []byte, detached bool) {
	if f.held {
		typed = append([]byte{detachKeys[0]}, typed...)
		f.held = false
	}
	if i := bytes.Index(typed, []byte(detachKeys)); i >= 0 {
		return typed[:i], true
	}
	if n := len(typed); n > 0 && typed[n-1] == detachKeys[0] {
		f.held = true
		typed = typed[:n-1]
	}
	return typed, false
}
