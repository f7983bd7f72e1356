package gvisor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// oomScore makes the kernel choose a sandbox before processes of the host, if the
// host's memory is used up: it counts as half of the memory (proc_pid_oom_score_adj(5)).
// Among sandboxes the largest is chosen.
const oomScore = "500"

// preferForOOM gives all processes in a group the oomScore. Their later children
// inherit it.
func preferForOOM(group *os.File) error {
	if group == nil {
		return nil
	}
	members, err := os.ReadFile(filepath.Join(group.Name(), "cgroup.procs"))
	if err != nil {
		return fmt.Errorf("list the processes of the sandbox: %w", err)
	}
	for pid := range strings.FieldsSeq(string(members)) {
		err := writeTo(filepath.Join("/proc", pid, "oom_score_adj"), oomScore)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("choose the sandbox before processes of the host: %w", err)
		}
	}
	return nil
}

// writeTo writes to a file that exists.
func writeTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
