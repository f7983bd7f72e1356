package sandbox_test

import (
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestStartCommandsAreBounded: a record can hold the longest commands of a plan.
func TestStartCommandsAreBounded(t *testing.T) {
	longest := strings.Repeat("x", 64<<10)
	for name, c := range map[string]struct {
		start sandbox.StartCommand
		want  string
	}{
		"longest":   {sandbox.StartCommand{Command: []string{"sh", "-c", longest}, Ready: []string{"sh", "-c", longest}}, ""},
		"none":      {sandbox.StartCommand{Ready: []string{"true"}}, "missing_cmd"},
		"empty":     {sandbox.StartCommand{Command: []string{""}}, "missing_cmd"},
		"too large": {sandbox.StartCommand{Command: []string{"sh", strings.Repeat("x", 256<<10)}}, "command_too_large"},
		"escaped":   {sandbox.StartCommand{Command: []string{"sh", strings.Repeat("<", 200<<10)}}, ""},
		"ready":     {sandbox.StartCommand{Command: []string{"sh"}, Ready: []string{"sh", strings.Repeat("x", 256<<10)}}, "command_too_large"},
		"many":      {sandbox.StartCommand{Command: append([]string{"sh"}, make([]string, 256<<10)...)}, "command_too_large"},
	} {
		if got := fault.ReasonOf(c.start.Validate()); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
