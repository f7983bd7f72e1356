package e2b

import (
	"strconv"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/control/templates"
)

// reasonText returns the message of a failed build in the words that E2B's clients know. Programs search
// the message of a RUN for a user that does not exist; other messages stay as they are.
func reasonText(message string) string {
	rest, run := strings.CutPrefix(message, "RUN ")
	at := strings.LastIndex(rest, ": "+templates.NoUser)
	if !run || at < 0 {
		return message
	}
	name, err := strconv.Unquote(rest[at+len(": "+templates.NoUser):])
	if err != nil {
		return message
	}
	return "failed to run command '" + rest[:at] + "': command failed: unauthenticated: invalid username: '" + name + "'"
}
