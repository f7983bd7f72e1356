package proc

import (
	"fmt"
	"os"
	"strings"
)

// ReadStatus returns the fields of the line that name has in /proc/PID/status
// (proc_pid_status(5)), such as the four user ids of "Uid". The error is
// os.ErrNotExist if there is no such process or no such line.
func ReadStatus(pid int, name string) ([]string, error) {
	path := fmt.Sprintf("/proc/%d/status", pid)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.Fields(value), nil
		}
	}
	return nil, fmt.Errorf("%s has no line %s: %w", path, name, os.ErrNotExist)
}
