package gvisor

import "github.com/wrenn-dev/wrenn/internal/host/vmm"

// CommandLine returns the program and the flags that the driver uses for a sandbox in
// dir.
func (d *Driver) CommandLine(dir string) ([]string, error) {
	build, err := d.build("")
	if err != nil {
		return nil, err
	}
	return append([]string{build.Program()}, flags(build, dir)...), nil
}

// PacketSockets returns copies of the packet sockets of a sandbox.
func PacketSockets(v vmm.VM) []int { return v.(*vm).packetSockets() }
