package main

import (
	"embed"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/jail"
)

// guestFiles holds the programs that wrenn brings along, the guest agent and the
// launcher of VM processes, if the build has put them there.
//
//go:embed guest
var guestFiles embed.FS

// guestBinary returns the guest agent that was built into this program.
func guestBinary() ([]byte, error) {
	data, err := guestFiles.ReadFile("guest/wrenn-guest")
	if err != nil {
		return nil, fault.New(fault.Unsupported, "guest_missing",
			"this wrenn was built without its guest agent: build it with `make build`")
	}
	return data, nil
}

// jailLauncher returns the launcher of VM processes that was built into this
// program.
func jailLauncher() (*jail.Launcher, error) {
	data, err := guestFiles.ReadFile("guest/wrenn-jail")
	if err != nil {
		return nil, fault.New(fault.Unsupported, "jail_missing",
			"this wrenn was built without the launcher of its VM processes: build it with `make build`")
	}
	return jail.New(data)
}
