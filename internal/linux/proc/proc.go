// Package proc reads the kernel's files about processes, memory and the boot
// below /proc, in the formats of proc(5), and follows processes that are not
// children of this one by their descriptors.
//
// It owns nothing and keeps nothing: each call reads the file again. A value is
// as old as the call that returned it. The caller closes descriptors.
package proc

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

const bootIDPath = "/proc/sys/kernel/random/boot_id"

// BootID returns the kernel's random id of this boot, a UUID of 36 characters.
// Together with a PID and its start time it identifies a process permanently.
func BootID() (string, error) {
	text, err := os.ReadFile(bootIDPath)
	if err != nil {
		return "", err
	}
	id := strings.TrimSpace(string(text))
	if len(id) != 36 {
		return "", fmt.Errorf("%s holds %q, which is not a UUID", bootIDPath, id)
	}
	return id, nil
}

// Stat holds fields of /proc/PID/stat (proc_pid_stat(5)). Times are in clock
// ticks, of which all Linux that Wrenn runs on has 100 a second.
type Stat struct {
	// State is R, S, D, Z or another letter; Z is a process that has ended and
	// waits for its parent to reap it.
	State byte
	// Parent is the number of the parent process.
	Parent int
	// UserTicks and SystemTicks are the CPU time in user and in kernel mode.
	UserTicks, SystemTicks uint64
	// StartTicks is when the process started, counted from the boot.
	StartTicks uint64
}

// ReadStat returns the Stat of a process. The error is os.ErrNotExist if there
// is no such process.
func ReadStat(pid int) (Stat, error) {
	return ReadStatFile(fmt.Sprintf("/proc/%d/stat", pid))
}

// ReadThreadStat returns the Stat of one thread of a process. The CPU times are
// the thread's own.
func ReadThreadStat(pid, thread int) (Stat, error) {
	return ReadStatFile(fmt.Sprintf("/proc/%d/task/%d/stat", pid, thread))
}

// ReadStatFile returns the Stat in the file at path, which lies in a proc mount of the
// caller.
func ReadStatFile(path string) (Stat, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Stat{}, err
	}
	s, err := parseStat(string(text))
	if err != nil {
		return Stat{}, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// Positions in proc_pid_stat(5), counted from field 3, the first one after the
// program's name.
const (
	firstField  = 3
	stateField  = 0
	parentField = 4 - firstField
	userField   = 14 - firstField
	systemField = 15 - firstField
	startField  = 22 - firstField
)

func parseStat(text string) (Stat, error) {
	// The program's name, field 2, is in parentheses and may hold anything.
	end := strings.LastIndexByte(text, ')')
	if end < 0 {
		return Stat{}, errors.New("no program name")
	}
	fields := strings.Fields(text[end+1:])
	if len(fields) <= startField {
		return Stat{}, errors.New("too few fields")
	}
	parent, err := strconv.Atoi(fields[parentField])
	if err != nil {
		return Stat{}, err
	}
	s := Stat{State: fields[stateField][0], Parent: parent}
	for field, to := range map[int]*uint64{userField: &s.UserTicks, systemField: &s.SystemTicks, startField: &s.StartTicks} {
		n, err := strconv.ParseUint(fields[field], 10, 64)
		if err != nil {
			return Stat{}, err
		}
		*to = n
	}
	return s, nil
}
