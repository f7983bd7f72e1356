package main

import (
	"fmt"

	"github.com/wrenn-dev/wrenn/internal/host/network"
)

// networkLimits limit the use of the host's network by one sandbox. 0 means no
// limit.
type networkLimits struct {
	connections int
	packets     int // a second, each way
	mbit        int // a second, each way
}

const bytesPerMbit = 1_000_000 / 8

func (s *networkLimits) flags(f flagSet) {
	d := network.DefaultLimits
	f.IntVar(&s.connections, "sandbox-connections", d.Connections, "connections that a sandbox may have open to the outside; 0 is no limit")
	f.IntVar(&s.packets, "sandbox-packets", d.Packets, "packets a second that a sandbox may send, and receive; 0 is no limit")
	f.IntVar(&s.mbit, "sandbox-mbit", int(d.Bytes/bytesPerMbit), "megabits a second that a sandbox may send, and receive; 0 is no limit")
}

// Bounds of the flags, far above any network's.
const (
	maxConnections = 1 << 24
	maxPackets     = 1_000_000_000
	maxMbit        = 60_000
)

func (s *networkLimits) validate() error {
	for _, v := range []struct {
		flag       string
		value, max int
	}{
		{"sandbox-connections", s.connections, maxConnections},
		{"sandbox-packets", s.packets, maxPackets},
		{"sandbox-mbit", s.mbit, maxMbit},
	} {
		if v.value < 0 || v.value > v.max {
			return fmt.Errorf("--%s is from 0 to %d, not %d", v.flag, v.max, v.value)
		}
	}
	return nil
}

// config translates 0, which is no limit here and the default there.
func (s *networkLimits) config() network.Limits {
	noLimit := func(n int) int {
		if n == 0 {
			return -1
		}
		return n
	}
	return network.Limits{
		Connections: noLimit(s.connections), Packets: noLimit(s.packets), Bytes: int64(noLimit(s.mbit)) * bytesPerMbit,
	}
}
