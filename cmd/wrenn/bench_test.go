package main

import (
	"slices"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func TestBenchSettings(t *testing.T) {
	for _, c := range []struct {
		args []string
		ok   bool
	}{
		{nil, true},
		{[]string{"--burst", "0", "--dirty-rounds", "0", "--file-mb", "0"}, true},
		{[]string{"--n", "0"}, false},
		{[]string{"--stagger-ms", "-1"}, false},
		{[]string{"--density", "-1"}, false},
		{[]string{"--file-mb", "-1"}, false},
		{[]string{"--dirty-mb", "8,0"}, false},
		{[]string{"--dirty-mb", "8,64,8"}, false},
	} {
		if s := parseBench(t, c.args); (s.validate() == nil) != c.ok {
			t.Errorf("%q: %v", c.args, s.validate())
		}
	}
	o := parseBench(t, []string{"--stagger-ms", "50", "--dirty-mb", "4,16", "--file-mb", "2"}).options()
	if o.Rounds != 20 || o.Burst != 20 || o.Stagger != 50*time.Millisecond || !slices.Equal(o.DirtyMB, []int{4, 16}) || o.FileBytes != 2<<20 || o.Density != 0 {
		t.Errorf("%+v", o)
	}
}

func parseBench(t *testing.T, args []string) *benchSettings {
	t.Helper()
	s := new(benchSettings)
	f := flagSet{pflag.NewFlagSet("bench", pflag.ContinueOnError)}
	s.flags(f)
	if err := f.Parse(args); err != nil {
		t.Fatal(err)
	}
	return s
}
