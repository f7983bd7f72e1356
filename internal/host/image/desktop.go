package image

import "slices"

// desktopReadySec bounds the start of the desktop, which takes minutes where the guest is
// emulated on a busy machine.
const desktopReadySec = 600

// Desktop is the recipe of a template with an Xfce session on an X server without a
// screen, which noVNC shows in a browser at port 6080. VNC itself listens on loopback.
func Desktop() Recipe {
	const settings = "/etc/xdg/xfce4/xfconf/xfce-perchannel-xml/"
	return Recipe{
		Name: "desktop", Suite: Suite,
		Packages: slices.Concat(basic(), []string{
			"adwaita-icon-theme", "dbus", "fonts-dejavu-core", "novnc", "python3-numpy", "scrot", "thunar", "websockify", "x11-utils", "x11vnc",
			"x11-xserver-utils", "xdotool", "xfce4-panel", "xfce4-session", "xfce4-settings", "xfce4-terminal", "xfdesktop4", "xfwm4", "xvfb",
		}),
		Commands: append(basicCommands(),
			// The panel asks for its layout at the first start, unless there is one.
			"cp /etc/xdg/xfce4/panel/default.xml "+settings+"xfce4-panel.xml",
		),
		Files: []File{
			{Path: "/usr/local/bin/start-desktop", Mode: 0o755, Content: startDesktop},
			{Path: "/usr/local/bin/desktop-ready", Mode: 0o755, Content: desktopReady},
			{Path: "/usr/share/novnc/index.html", Mode: 0o644, Content: desktopPage},
			{Path: settings + "xfwm4.xml", Mode: 0o644, Content: windowSettings},
		},
		Start: Start{
			Command: "/usr/local/bin/start-desktop", Ready: "/usr/local/bin/desktop-ready", User: "user", ReadySec: desktopReadySec,
		},
		Space: 2560 << 20,
	}
}

// startDesktop starts the parts of the desktop and ends with the first of them that ends.
const startDesktop = `#!/bin/bash
set -eu
export DISPLAY=:0
Xvfb :0 -screen 0 1280x800x24 -nolisten tcp &
until [ -S /tmp/.X11-unix/X0 ]; do sleep 0.1; done
dbus-run-session -- xfce4-session &
x11vnc -display :0 -localhost -rfbport 5900 -forever -shared -nopw -noxdamage -quiet &
websockify --web /usr/share/novnc 6080 127.0.0.1:5900 &
wait -n
`

// desktopReady succeeds when the windows of the desktop, the panel and its plugins are
// visible, VNC and noVNC answer, and the screen has not changed since the run before:
// windows are visible before their content is drawn.
const desktopReady = `#!/bin/bash
set -eu
export DISPLAY=:0
for class in xfdesktop xfce4-panel wrapper-2.0; do
	xdotool search --onlyvisible --class "^$class\$" >/dev/null
done
curl -fsS --max-time 5 -o /dev/null http://127.0.0.1:6080/vnc.html
exec 3<>/dev/tcp/127.0.0.1/5900
read -r -t 5 -N 4 greeting <&3
[ "$greeting" = "RFB " ]
now=/tmp/.desktop-now.png before=/tmp/.desktop-before.png
scrot -o $now
if cmp -s $now $before; then
	rm $now $before
	exit 0
fi
mv $now $before
exit 1
`

// desktopPage is the first page of port 6080.
const desktopPage = `<!DOCTYPE html>
<title>Desktop</title>
<meta http-equiv="refresh" content="0; url=vnc.html?autoconnect=true&amp;resize=scale">
`

// windowSettings turn off effects of the window manager, which cost an emulated
// processor more than the rest of it.
const windowSettings = `<?xml version="1.0" encoding="UTF-8"?>
<channel name="xfwm4" version="1.0">
  <property name="general" type="empty">
    <property name="use_compositing" type="bool" value="false"/>
  </property>
</channel>
`
