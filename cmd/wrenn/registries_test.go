package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/wrenn-dev/wrenn/internal/host/oci"
)

func TestRegistries(t *testing.T) {
	mirrors := func(m map[string]oci.Mirror) map[string]oci.Mirror { return m }
	for _, c := range []struct {
		args []string
		want oci.Policy
		ok   bool
	}{
		{nil, oci.Policy{Mirrors: mirrors(map[string]oci.Mirror{})}, true},
		{[]string{"--registry=a:5000,insecure", "--registry", "b.example", "--registry-mirror=ghcr.io=a:5000/x"}, oci.Policy{
			Registries: []oci.Registry{{Host: "a:5000", Insecure: true}, {Host: "b.example"}},
			Mirrors:    map[string]oci.Mirror{"ghcr.io": {Host: "a:5000", Prefix: "x"}},
		}, true},
		{[]string{"--registry=a,b,insecure"}, oci.Policy{Registries: []oci.Registry{{Host: "a"}, {Host: "b", Insecure: true}}, Mirrors: map[string]oci.Mirror{}}, true},
		{[]string{"--registry=http://a"}, oci.Policy{}, false},
		{[]string{"--registry-mirror=docker.io"}, oci.Policy{}, false},
		{[]string{"--registry-mirror=docker.io=a:1", "--registry-mirror=docker.io=b:1"}, oci.Policy{}, false},
	} {
		s, flags := new(registrySettings), pflag.NewFlagSet("", pflag.ContinueOnError)
		s.flags(flagSet{flags})
		if err := flags.Parse(c.args); err != nil {
			t.Fatal(err)
		}
		got, err := s.policy()
		if (err == nil) != c.ok || s.validate() == nil != c.ok {
			t.Errorf("%v: got %v, want valid %t", c.args, err, c.ok)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%v (-want +got):\n%s", c.args, diff)
		}
	}
}
