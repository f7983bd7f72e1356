package host_test

import (
	"testing"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestGuestDefaults: commands that name no user run as that of the spec, in its directory,
// also in a copy and after a resume. If the user does not exist, the sandbox starts, and
// such commands fail instead of running as root.
func TestGuestDefaults(t *testing.T) { onEachRuntime(t, guestDefaults) }

func guestDefaults(t *testing.T, kind sandbox.Runtime) {
	b := newBenchOf(t, kind, "defaults")
	const ask = "echo $(id -un) $(pwd) $HOME"
	as := func(user, dir string) sandbox.Spec {
		spec := smallSpec
		spec.User, spec.Workdir = user, dir
		return spec
	}
	says := func(ref sandbox.Ref, when, want string) {
		t.Helper()
		if got := b.sh(ref, ask); got != want {
			t.Errorf("%s: %q, want %q", when, got, want)
		}
	}
	parent := b.create()
	says(parent, "without a user", "root /root /root")
	b.sh(parent, "mkdir -p /srv/app && chown 1000 /srv/app")
	_, err := b.Snapshot(t.Context(), parent, coreSnapshot, false)
	check(t, err)
	ref, lost := newRef(), newRef()
	_, err = b.CreateFrom(t.Context(), ref, as("user", "/srv/app"), coreSnapshot)
	check(t, err)
	says(ref, "in a copy", "user /srv/app /home/user")
	_, err = b.Pause(t.Context(), ref)
	check(t, err)
	ref.Generation++
	_, err = b.Resume(t.Context(), ref)
	check(t, err)
	says(ref, "after the resume", "user /srv/app /home/user")

	_, err = b.CreateFrom(t.Context(), lost, as("nosuch", "/srv/app"), coreSnapshot)
	check(t, err)
	if out, err := b.trySh(t.Context(), lost, ask); fault.ReasonOf(err) != "unknown_user" {
		t.Errorf("the command of a user who does not exist: %q, %v, want unknown_user", out, err)
	}
}
