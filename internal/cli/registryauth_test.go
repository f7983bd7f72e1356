package cli

import (
	"slices"
	"testing"
)

func TestRegistriesOfADockerfile(t *testing.T) {
	for _, c := range []struct {
		name, text string
		args       map[string]string
		want       []string
	}{
		{"Docker Hub", "FROM debian:13", nil, []string{"docker.io"}},
		{"a registry with a port", "from --platform=linux/amd64 localhost:5000/a/b@sha256:" + digestOfNothing + " as x", nil, []string{"localhost:5000"}},
		{"stages, templates and scratch", "FROM template:minimal AS Base\nFROM base\nFROM scratch\nCOPY --from=base /a /a\nCOPY --from=0 /a /a", nil, nil},
		{"an image of a COPY", "FROM scratch\nCOPY --chown=1 --from=ghcr.io/a/b /a /a", nil, []string{"ghcr.io"}},
		{"an ARG", "ARG R=ghcr.io\nARG V=\"1\"\nFROM ${R}/a:$V", nil, []string{"ghcr.io"}},
		{"a build argument", "ARG R=ghcr.io\nFROM ${R}/a/b", map[string]string{"R": "quay.io"}, []string{"quay.io"}},
		{"an ARG of a stage", "FROM scratch\nARG R=ghcr.io\nCOPY --from=$R/a /a /a", nil, nil},
		{"each once, sorted", "FROM quay.io/a/b\nFROM ghcr.io/a\nFROM ghcr.io/b", nil, []string{"ghcr.io", "quay.io"}},
		{"no reference", "FROM $UNSET\nFROM A B", nil, nil},
		{"a mount", "FROM scratch\nRUN --network=none --mount=type=bind,from=ghcr.io/a/b,target=/a --mount=from=quay.io/c,type=bind,target=/c true", nil, []string{"ghcr.io", "quay.io"}},
		{"mounts of stages and of the context", "FROM scratch AS s\nRUN --mount=type=bind,from=s,target=/a --mount=target=/b --mount=type=cache,target=/c true", nil, nil},
		{"a mount in a command", "FROM scratch\nRUN echo --mount=type=bind,from=ghcr.io/a/b", nil, nil},
		{"continued lines", "FROM scratch\nRUN --mount=type=bind,from=ghcr.io/a/b,target=/a \\ \n# a comment\n  --mount=type=bind,from=quay.io/c,target=/c \\\n true\nCOPY \\\n --from=gcr.io/d /d /d", nil, []string{"gcr.io", "ghcr.io", "quay.io"}},
		{"nothing", "", nil, nil},
	} {
		if got := registriesOf(c.text, c.args); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

const digestOfNothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestOnlySomeDockerfilesTakeFiles(t *testing.T) {
	for text, want := range map[string]bool{
		"FROM a\nRUN b":                            false,
		"FROM a\n  copy . /":                       true,
		"FROM a\nADD x /":                          true,
		"FROM a\nONBUILD COPY . /":                 true,
		"FROM a\nRUN --mount=type=secret,id=a cat": true, // a mount may be one of the context
		"FROM a\nRUN echo COPY . /":                false,
	} {
		if got := takesFiles.MatchString(text); got != want {
			t.Errorf("%q: got %t, want %t", text, got, want)
		}
	}
}
