package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/untrusted"
)

// A disk is copied by a mirror job of QEMU's block layer. It copies the present
// content while the guest runs; the guest's own writes go to both files
// (copy-mode=write-blocking), so that the copy keeps up with any rate of writes.
// The work left for a stopped guest does not depend on the size of the disk or of
// the changes. bench/README.md has the figures of this and of the alternatives.

// Names in QEMU's block graph and in its list of jobs and fd sets.
const (
	diskNode = "d1" // the guest's writable disk, see argv
	copyName = "disk-copy"
)

var _ vmm.DiskCopier = (*vm)(nil)

// copyPoll is the interval at which a running job is checked. endPoll is that for a
// job during which the VM is stopped.
const (
	copyPoll = 5 * time.Millisecond
	endPoll  = time.Millisecond
)

// BeginDiskCopy starts the mirror and waits until it is in step.
func (v *vm) BeginDiskCopy(ctx context.Context, dst *os.File) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, v.AbandonDiskCopy(context.WithoutCancel(ctx)))
		}
	}()
	if err := v.AbandonDiskCopy(ctx); err != nil { // one that could not be ended before
		return err
	}
	set, err := v.addFile(ctx, dst)
	if err != nil {
		return err
	}
	if err := v.call(ctx, "blockdev-add", map[string]any{
		"driver": "raw", "node-name": copyName, "discard": "unmap",
		"file": map[string]any{
			"driver": "file", "filename": fmt.Sprintf("/dev/fdset/%d", set), "locking": "off", "aio": "threads",
			"discard": "unmap", "cache": map[string]any{"no-flush": true},
		},
	}, nil); err != nil {
		return err
	}
	if err := v.call(ctx, "blockdev-mirror", map[string]any{
		"job-id": copyName, "device": diskNode, "target": copyName, "sync": "full",
		"copy-mode": "write-blocking", "auto-dismiss": false,
	}, nil); err != nil {
		return err
	}
	return v.awaitCopy(ctx, "ready", copyPoll)
}

// EndDiskCopy lets the mirror finish the last writes and ends it. A job that is
// cancelled when it is ready ends with both files equal (QEMU docs,
// interop/live-block-operations).
func (v *vm) EndDiskCopy(ctx context.Context) error {
	if err := v.call(ctx, "block-job-cancel", map[string]any{"device": copyName}, nil); err != nil {
		return err
	}
	if err := v.awaitCopy(ctx, "concluded", endPoll); err != nil {
		return err
	}
	return v.dropCopy(ctx)
}

// AbandonDiskCopy ends the job where there is one, and frees its resources. It
// takes answerTimeout at most: a VMM may say for ever that the job is under way.
func (v *vm) AbandonDiskCopy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	j, err := v.copyJob(ctx)
	if err != nil {
		return err
	}
	if j.Status != "" && j.Status != "concluded" {
		err := v.call(ctx, "block-job-cancel", map[string]any{"device": copyName, "force": true}, nil)
		if err != nil {
			return err
		}
		// The wait reports that the job was cancelled, which is no failure here.
		if err := v.awaitCopy(ctx, "concluded", copyPoll); err != nil && ctx.Err() != nil {
			return err
		}
	}
	return v.dropCopy(ctx)
}

// job is one entry of the answer to query-jobs.
type job struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	Error  string `json:"error"`
}

// copyJob returns the mirror job; its Status is empty where there is none.
func (v *vm) copyJob(ctx context.Context) (job, error) {
	var jobs []job
	if err := v.call(ctx, "query-jobs", nil, &jobs); err != nil {
		return job{}, err
	}
	for _, j := range jobs {
		if j.ID == copyName {
			return j, nil
		}
	}
	return job{}, nil
}

// awaitCopy waits until the job has the status want. It fails when the job ends
// before, or with an error.
func (v *vm) awaitCopy(ctx context.Context, want string, poll time.Duration) error {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		j, err := v.copyJob(ctx)
		switch {
		case err != nil:
			return err
		case j.Status == "" || j.Error != "" || j.Status == "concluded" && want != "concluded":
			return fmt.Errorf("the copy of the disk ended early: %q (%s)", untrusted.Line(j.Status, 64), untrusted.Line(j.Error, 1<<10))
		case j.Status == want:
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// dropCopy removes the job that has ended, its target and the descriptor.
func (v *vm) dropCopy(ctx context.Context) error {
	j, err := v.copyJob(ctx)
	if err != nil {
		return err
	}
	if j.Status != "" {
		if err := v.call(ctx, "job-dismiss", map[string]any{"id": copyName}, nil); err != nil {
			return err
		}
	}
	var nodes []struct {
		Name string `json:"node-name"`
	}
	if err := v.call(ctx, "query-named-block-nodes", map[string]any{"flat": true}, &nodes); err != nil {
		return err
	}
	for _, n := range nodes {
		if n.Name == copyName {
			if err := v.call(ctx, "blockdev-del", map[string]any{"node-name": copyName}, nil); err != nil {
				return err
			}
		}
	}
	return v.dropFile(ctx)
}

// addFile hands QEMU a duplicate of f and returns the number of its fd set.
func (v *vm) addFile(ctx context.Context, f *os.File) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	var added struct {
		Set int64 `json:"fdset-id"`
	}
	err := v.callWithFile(ctx, "add-fd", f, map[string]any{"opaque": copyName}, &added)
	return added.Set, err
}

// dropFile takes back every descriptor that addFile has handed over.
func (v *vm) dropFile(ctx context.Context) error {
	var sets []struct {
		ID  int64 `json:"fdset-id"`
		Fds []struct {
			Opaque string `json:"opaque"`
		} `json:"fds"`
	}
	if err := v.call(ctx, "query-fdsets", nil, &sets); err != nil {
		return err
	}
	for _, s := range sets {
		if len(s.Fds) > 0 && s.Fds[0].Opaque == copyName {
			if err := v.call(ctx, "remove-fd", map[string]any{"fdset-id": s.ID}, nil); err != nil {
				return err
			}
		}
	}
	return nil
}
