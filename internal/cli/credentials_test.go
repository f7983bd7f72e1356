package cli

import (
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"
)

// appWith returns an App that sees an environment and files.
func appWith(env, files map[string]string, args ...string) *App {
	a := New(IO{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard, LookupEnv: func(name string) (string, bool) {
		v, ok := env[name]
		return v, ok
	}})
	a.readFile = func(path string) ([]byte, error) {
		content, ok := files[path]
		switch {
		case content == "denied":
			return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrPermission}
		case !ok:
			return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
		}
		return []byte(content), nil
	}
	if err := a.root.ParseFlags(args); err != nil {
		panic(err)
	}
	return a
}

func TestWhichKeyIsUsed(t *testing.T) {
	const system, own = "/var/lib/wrenn/api-key", "/home/eve/.config/wrenn/api-key"
	home := map[string]string{"HOME": "/home/eve"}
	for name, c := range map[string]struct {
		env, files map[string]string
		args       []string
		key, hint  string
	}{
		"root":                      {home, map[string]string{system: "k1\n"}, nil, "k1", "the key comes from " + system},
		"a user with a copy":        {home, map[string]string{system: "denied", own: "k2"}, nil, "k2", "the copy in " + own + " is not the server's key"},
		"a user without one":        {home, map[string]string{system: "denied"}, nil, "", "sudo install -m 600 -o \"$USER\" " + system + " " + own},
		"no home":                   {nil, map[string]string{system: "denied"}, nil, "", "use sudo"},
		"nothing":                   {home, nil, nil, "", "wrenn key create"},
		"another directory":         {map[string]string{"WRENN_DATA_DIR": "/srv/w"}, map[string]string{system: "k1", "/srv/w/api-key": "k3"}, nil, "k3", "/srv/w"},
		"another machine":           {home, map[string]string{system: "k1", own: "k2"}, []string{"--url", "https://wrenn.example"}, "", "not sent to others"},
		"another machine's address": {home, map[string]string{system: "k1"}, []string{"--url", "http://10.0.0.1:8080"}, "", "not sent to others"},
		"a name like ours":          {home, map[string]string{system: "k1"}, []string{"--url", "http://127.0.0.1.example:8080"}, "", "not sent to others"},
		"not even ours in the URL":  {home, map[string]string{system: "k1"}, []string{"--url", "http://127.0.0.1:80@evil.example"}, "", "not sent to others"},
		"another port here":         {home, map[string]string{system: "k1"}, []string{"--url", "localhost:9000"}, "k1", system},
		"two lines":                 {home, map[string]string{system: "k1\nk2", own: "k3"}, nil, "k3", own},
	} {
		t.Run(name, func(t *testing.T) {
			a := appWith(c.env, c.files, c.args...)
			got, err := a.credentials()
			if err != nil || got.key != c.key {
				t.Errorf("key %q, %v, want %q", got.key, err, c.key)
			}
			if hint := a.keyHint(); !strings.Contains(hint, c.hint) {
				t.Errorf("hint %q, want %q in it", hint, c.hint)
			} else if printable(hint) != hint {
				t.Errorf("the hint %q changes when it is printed", hint)
			}
		})
	}
}

func TestNamedKeyFileMustBeReadable(t *testing.T) {
	a := appWith(map[string]string{"WRENN_API_KEY": "other"}, map[string]string{"k": "denied"}, "--api-key-file", "k")
	_, err := a.Client().Get(t.Context(), "abc")
	var failure *Failure
	if !errors.As(err, &failure) || !strings.Contains(failure.Hint, "--api-key-file") {
		t.Errorf("got %v, want a failure that names the flag", err)
	}
}

func TestURLsAsPeopleTypeThem(t *testing.T) {
	for typed, want := range map[string]string{
		"http://h:1": "http://h:1", "https://h": "https://h", "localhost:9": "http://localhost:9", "127.0.0.1": "http://127.0.0.1",
		"[::1]:8080": "http://[::1]:8080", "wrenn.example": "https://wrenn.example", "10.0.0.1:8080": "https://10.0.0.1:8080",
	} {
		if got := appWith(nil, nil, "--url", typed).serverURL(); got != want {
			t.Errorf("--url %s is %s, want %s", typed, got, want)
		}
	}
}

func TestShellWord(t *testing.T) {
	for in, want := range map[string]string{"/a/b-c.d": "/a/b-c.d", "": "''", "a b": "'a b'", "it's": `'it'\''s'`} {
		if got := shellWord(in); got != want {
			t.Errorf("%q became %s, want %s", in, got, want)
		}
	}
}
