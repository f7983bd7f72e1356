package main

import (
	"embed"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// guestFiles holds the guest agent, if the build has put it there.
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
