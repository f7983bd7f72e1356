package main

import (
	"testing"

	"github.com/spf13/pflag"

	"github.com/wrenn-dev/wrenn/internal/host/network"
)

func TestNetworkLimits(t *testing.T) {
	for _, c := range []struct {
		args []string
		want network.Limits
		ok   bool
	}{
		{nil, network.DefaultLimits, true},
		{[]string{"--sandbox-connections=7", "--sandbox-packets=9", "--sandbox-mbit=8"}, network.Limits{Connections: 7, Packets: 9, Bytes: 1_000_000}, true},
		{[]string{"--sandbox-connections=0", "--sandbox-packets=0", "--sandbox-mbit=0"}, network.Limits{Connections: -1, Packets: -1, Bytes: -bytesPerMbit}, true},
		{[]string{"--sandbox-mbit=-1"}, network.Limits{}, false},
		{[]string{"--sandbox-connections=100000000"}, network.Limits{}, false},
		{[]string{"--sandbox-packets=2000000000"}, network.Limits{}, false},
	} {
		limits, flags := new(networkLimits), pflag.NewFlagSet("", pflag.ContinueOnError)
		limits.flags(flagSet{flags})
		if err := flags.Parse(c.args); err != nil {
			t.Fatal(err)
		}
		err := limits.validate()
		if (err == nil) != c.ok || c.ok && limits.config() != c.want {
			t.Errorf("%v: got %+v %v, want %+v, valid %t", c.args, limits.config(), err, c.want, c.ok)
		}
	}
}
