package gvisor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/untrusted"
)

const (
	// victimTime bounds the choice of a command.
	victimTime = 5 * time.Second
	// victimBytes bounds the answer about the processes of a guest.
	victimBytes = 4 << 20
	// userGroup is the control group in the guest that holds one for each command
	// (guest/boot).
	userGroup = "/user"
	// nameBytes bounds the name of a control group of the guest in messages.
	nameBytes = 100
	// guestPage is the size of the guest's pages in bytes.
	guestPage = 4 << 10
)

// endLargest stops the guest, ends the largest command and continues the guest. A guest
// whose sentry does not say how large commands are loses all of them.
func (v *vm) endLargest(ctx context.Context) {
	resume := v.pauseBriefly(ctx)
	if resume == nil {
		return
	}
	defer resume()
	limited, cancel := context.WithTimeout(ctx, victimTime)
	defer cancel()
	log := v.hold.guard.log.With("sandbox", v.Record().ID)
	group, size, err := v.largest(limited)
	if err != nil {
		log.Warn("a sandbox uses too much memory, and its commands cannot be compared: all are ended", "error", err)
		v.endUsers(ctx)
		return
	}
	if group == "" {
		return
	}
	log.Info("a sandbox uses too much memory, its largest command is ended", "command", untrusted.Line(group, nameBytes), "size_mb", size>>20)
	if err := v.writeGroup(limited, userGroup+"/"+group, noMemory, endProcesses); err != nil {
		log.Warn("the largest command of a sandbox cannot be ended, will try again", "error", err)
	}
}

// endUsers ends all commands. Their answers do not say why, because the limit of the
// group that they share is also that of later ones.
func (v *vm) endUsers(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, victimTime)
	defer cancel()
	if err := v.writeGroup(limited, userGroup, endProcesses); err != nil {
		v.hold.guard.log.Warn("the commands of a sandbox cannot be ended", "sandbox", v.Record().ID, "error", err)
	}
}

// largest returns the command with the most memory, by the name of its control group,
// and its size in bytes. There is none if group is empty. The guest must be paused.
func (v *vm) largest(ctx context.Context) (group string, size uint64, err error) {
	var processes []struct {
		PID int `json:"pid"`
	}
	if err := call(ctx, v.dir, methodProcesses, containerID, &processes); err != nil {
		return "", 0, err
	}
	var files []string
	for _, p := range processes {
		if p.PID > 1 {
			files = append(files, fmt.Sprintf("/proc/%d/statm", p.PID), fmt.Sprintf("/proc/%d/cgroup", p.PID))
		}
	}
	text, err := v.read(ctx, files)
	if err != nil {
		return "", 0, err
	}
	sizes, err := sizesOf(text)
	if err != nil {
		return "", 0, err
	}
	for name, bytes := range sizes {
		if group == "" || bytes > size || bytes == size && name < group {
			group, size = name, bytes
		}
	}
	return group, size, nil
}

// read returns the content of files of the guest, one after the other.
func (v *vm) read(ctx context.Context, files []string) (string, error) {
	reader, writer, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer reader.Close()
	stop := context.AfterFunc(ctx, func() { _ = reader.SetReadDeadline(time.Now()) })
	defer stop()
	done := make(chan error, 1)
	go func() {
		request := struct {
			Files []string `json:"files"`
		}{files}
		err := fault.Caught(func() error { return call(ctx, v.dir, methodCat, request, nil, writer) })
		done <- errors.Join(err, writer.Close())
	}()
	var text strings.Builder
	n, err := io.Copy(&text, io.LimitReader(reader, victimBytes))
	_ = reader.Close() // so that a sentry that has more to say fails
	err = errors.Join(err, <-done)
	if n == victimBytes {
		err = errors.Join(err, errors.New("the answer is too long"))
	}
	return text.String(), err
}

// sizesOf returns the resident memory of commands, in bytes, by the names of their
// control groups. The text has the files statm and cgroup of each process (proc(5)). It
// fails for a line that is too long, after which the text would not be read.
func sizesOf(text string) (map[string]uint64, error) {
	sizes := make(map[string]uint64)
	var pages uint64
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		if path, ok := strings.CutPrefix(lines.Text(), "0::"+userGroup+"/"); ok {
			if group, _, _ := strings.Cut(path, "/"); group != "." && group != ".." {
				sizes[group] += pages * guestPage
			}
			continue
		}
		if fields := strings.Fields(lines.Text()); len(fields) == statmFields {
			pages, _ = strconv.ParseUint(fields[1], 10, 64)
		}
	}
	return sizes, lines.Err()
}

// statmFields is the number of fields of the file statm.
const statmFields = 7

// setting is a file of a control group in the guest with its new content.
type setting struct{ name, value string }

var (
	endProcesses = setting{"cgroup.kill", "1"}
	// noMemory tells the agent why the processes of a group have ended (guest/boot).
	noMemory = setting{"memory.max", "0"}
)

// writeGroup changes settings of the control group of the guest at path.
func (v *vm) writeGroup(ctx context.Context, path string, settings ...setting) error {
	type file struct {
		Controller string `json:"controller"`
		Path       string `json:"path"`
		Name       string `json:"name"`
	}
	type change struct {
		File  file   `json:"file"`
		Value string `json:"value"`
	}
	var request struct {
		Args []change `json:"args"`
	}
	for _, s := range settings {
		request.Args = append(request.Args, change{file{"memory", path, s.name}, s.value})
	}
	var answers struct {
		Results []struct {
			Value   string `json:"value"`
			IsError bool   `json:"is_error"`
		} `json:"results"`
	}
	if err := call(ctx, v.dir, methodWriteGroups, request, &answers); err != nil {
		return err
	}
	if n := len(answers.Results); n != len(settings) || answers.Results[n-1].IsError {
		return fmt.Errorf("change the control group %s of the guest: %s", untrusted.Line(path, nameBytes), untrusted.Line(fmt.Sprint(answers.Results), errorBytes))
	}
	return nil
}

// reduceTime bounds a collection of the sentry's garbage.
const reduceTime = 2 * time.Second

// reduce makes the sentry give up memory that it does not need. Pooled buffers become
// garbage at the first collection and are collected by the second. A failure only delays
// that.
func (v *vm) reduce(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, reduceTime)
	defer cancel()
	for range 2 {
		_ = call(ctx, v.dir, methodReduce, struct{}{}, nil)
	}
}

// overdraw ends a sandbox that uses too much memory.
func (v *vm) overdraw() error {
	v.hold.guard.log.Warn("a sandbox used more memory than it may for too long, and is ended", "sandbox", v.Record().ID)
	v.overdrawn.Store(true)
	return v.Kill(context.Background())
}
