package bench

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/wrenn-dev/wrenn/client"
)

// pythonArgs start Python once.
var pythonArgs = []string{"-c", "print(1)"}

// sumArgs print the seconds that a loop in Python took.
var sumArgs = []string{"-c", "import time; a = time.perf_counter(); sum(range(10**7)); print(time.perf_counter() - a)"}

// sumTime reads the output of sumArgs.
func sumTime(out string) (time.Duration, error) {
	seconds, err := strconv.ParseFloat(strings.TrimSpace(out), 64)
	if err != nil {
		return 0, fmt.Errorf("output of the timing program: %.60q: %w", out, err)
	}
	return time.Duration(seconds * float64(time.Second)), nil
}

// python measures Python as the first command of new sandboxes, one restored and one
// from the pool, and a loop in it.
func (r *run) python(ctx context.Context) error {
	sb, err := r.firstPython(ctx, r.restoreSize, opPython)
	if err != nil {
		return err
	}
	out, err := r.exec(ctx, sb.ID, client.ExecRequest{Cmd: "python3", Args: sumArgs, Timeout: time.Minute})
	if err != nil {
		return err
	}
	took, err := sumTime(out)
	if err != nil {
		return err
	}
	r.addTime(opSum, took)
	if err := r.awaitClone(ctx); errors.Is(err, errPermanent) {
		return nil // the part create_pool says that there is no pool
	} else if err != nil {
		return err
	}
	_, err = r.firstPython(ctx, r.Size, opPythonPool)
	return err
}

// firstPython creates a sandbox and measures its first command. A create of a pool's
// size counts if a warm clone answered it.
func (r *run) firstPython(ctx context.Context, size Size, op string) (*client.Sandbox, error) {
	sb, err := r.create(ctx, size)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if _, err := r.exec(ctx, sb.ID, client.ExecRequest{Cmd: "python3", Args: pythonArgs, Timeout: time.Minute}); err != nil {
		return nil, err
	}
	if pooled := sb.Source != nil && *sb.Source == sourcePool; pooled == (op == opPythonPool) {
		r.addTime(op, time.Since(began))
	}
	return sb, nil
}
