package image

import (
	"slices"
	"strings"
	"testing"
)

// TestDesktopStartsItsPackages: every program that the start and ready commands of the
// desktop call is in a package of the recipe or of the essential ones.
func TestDesktopStartsItsPackages(t *testing.T) {
	r := Desktop()
	for program, name := range map[string]string{
		"Xvfb": "xvfb", "dbus-run-session": "dbus", "xfce4-session": "xfce4-session", "x11vnc": "x11vnc", "websockify": "websockify",
		"/usr/share/novnc": "novnc", "xfdesktop": "xfdesktop4", "xfce4-panel": "xfce4-panel", "xdotool": "xdotool", "scrot": "scrot", "curl": "curl",
	} {
		if !strings.Contains(startDesktop+desktopReady, program) {
			t.Errorf("the desktop does not call %s", program)
		}
		if !slices.Contains(r.Packages, name) {
			t.Errorf("the recipe calls %s and lacks the package %s", program, name)
		}
	}
	if !strings.Contains(startDesktop, "x11vnc -display :0 -localhost ") {
		t.Error("VNC, which has no password, listens on all addresses, want loopback alone")
	}
}
