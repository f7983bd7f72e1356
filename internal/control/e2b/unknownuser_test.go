package e2b

import "testing"

// TestReasonOfAnUnknownUser expects the words of E2B for a RUN alone.
func TestReasonOfAnUnknownUser(t *testing.T) {
	const known = "failed to run command 'whoami': command failed: unauthenticated: invalid username: 'root123'"
	for message, want := range map[string]string{
		`RUN whoami: the image has no user "root123"`: known,
		`RUN echo ": the image has no user \"a\"": the image has no user "b"`: `failed to run command 'echo ": the image has no user \"a\""': ` +
			`command failed: unauthenticated: invalid username: 'b'`,
		`RUN echo ': the image has no user ': exit status 1`: "",
		`RUN whoami: exit status 1`:                          "",
		`RUN whoami: the image has no user `:                 "",
		`COPY a b: the image has no user "who"`:              "",
		`the image has no user "who"`:                        "",
		``:                                                   "",
	} {
		if want == "" {
			want = message
		}
		if got := reasonText(message); got != want {
			t.Errorf("the reason of %q: got %q, want %q", message, got, want)
		}
	}
}
