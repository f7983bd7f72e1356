package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestFlagOverEnvironmentOverDefault(t *testing.T) {
	cases := []struct {
		name, arg, env, want string
	}{
		{"default", "", "", defaultDataDir},
		{"environment", "", "/env", "/env"},
		{"flag", "/flag", "/env", "/flag"},
		{"flag that is the default", defaultDataDir, "/env", defaultDataDir},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var s dataSettings
			flags := pflag.NewFlagSet("", pflag.ContinueOnError)
			s.flags(flagSet{flags})
			var args []string
			if c.arg != "" {
				args = []string{"--data-dir", c.arg}
			}
			if err := flags.Parse(args); err != nil {
				t.Fatal(err)
			}
			lookup := func(name string) (string, bool) { return c.env, name == "WRENN_DATA_DIR" }
			if err := readEnvironment(flags, lookup); err != nil {
				t.Fatal(err)
			}
			if s.dataDir != c.want {
				t.Errorf("got %s, want %s", s.dataDir, c.want)
			}
		})
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	for _, s := range []settings{&dataSettings{}, &databaseSettings{}, &secretSetting{name: "token"}} {
		s.flags(flagSet{flags})
	}
	env := map[string]string{"DATABASE_URL": "postgres://u:hunter2@db/w", "WRENN_TOKEN": "s3cret"}
	if err := readEnvironment(flags, func(name string) (string, bool) { v, ok := env[name]; return v, ok }); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	logConfiguration(slog.New(slog.NewTextHandler(&out, nil)), flags)
	for _, secret := range []string{"hunter2", "s3cret"} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("the log shows %q: %s", secret, out.String())
		}
	}
	for _, want := range []string{"data_dir=" + defaultDataDir, "database_url=(set)", "token=(set)"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the log lacks %q: %s", want, out.String())
		}
	}
}

func TestReachableNameservers(t *testing.T) {
	const conf = `# made by hand
nameserver 127.0.0.53
nameserver 192.0.2.1
nameserver 2001:db8::1
nameserver
search example.org
nameserver 192.0.2.2 # second
`
	got := reachable(conf)
	if len(got) != 2 || got[0].String() != "192.0.2.1" || got[1].String() != "192.0.2.2" {
		t.Errorf("got %v", got)
	}
}

func TestEachDataDirectoryHasItsOwnNames(t *testing.T) {
	a, b := layout{defaultDataDir}.name(), layout{"/srv/wrenn"}.name()
	if a != "wrenn" || b == a || len(b) > 10 {
		t.Errorf("names %q and %q", a, b)
	}
}
