package cli

import (
	"slices"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/client"
)

const digestOfNothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// TestRegistriesOfABuild: the registries are those of the images that the server pulls, and no
// others.
func TestRegistriesOfABuild(t *testing.T) {
	for _, c := range []struct {
		name, text string
		args       map[string]string
		want       []string
	}{
		{"Docker Hub", "FROM debian:13", nil, []string{"docker.io"}},
		{"a registry with a port", "from --platform=linux/amd64 localhost:5000/a/b@sha256:" + digestOfNothing + " as x", nil, []string{"localhost:5000"}},
		{"stages, templates and scratch", "FROM template:minimal AS Base\nFROM base AS next\nFROM scratch\nCOPY --from=base /a /a\nCOPY --from=0 /a /a\nCOPY --from=NEXT /a /a", nil, nil},
		{"an image of a COPY", "FROM scratch\nCOPY --chown=1 --from=ghcr.io/a/b /a /a", nil, []string{"ghcr.io"}},
		{"an ARG", "ARG R=ghcr.io\nARG V=\"1\"\nFROM ${R}/a:$V", nil, []string{"ghcr.io"}},
		{"a build argument", "ARG R=ghcr.io\nFROM ${R}/a/b", map[string]string{"R": "quay.io"}, []string{"quay.io"}},
		{"a build argument that the text does not declare", "FROM scratch\nARG R=ghcr.io\nCOPY --from=$R/a /a /a", map[string]string{"S": "quay.io"}, []string{"ghcr.io"}},
		{"a default", "FROM ${R:-ghcr.io}/a", nil, []string{"ghcr.io"}},
		{"an ARG of a stage with its default before FROM", "ARG R=ghcr.io\nFROM scratch\nARG R\nCOPY --from=$R/a /a /a", nil, []string{"ghcr.io"}},
		{"each once, sorted", "FROM quay.io/a/b AS a\nFROM ghcr.io/a AS b\nFROM ghcr.io/b\nCOPY --from=a /a /a\nCOPY --from=b /a /a", nil, []string{"ghcr.io", "quay.io"}},
		{"mounts", "FROM scratch\nRUN --network=none --mount=type=bind,from=ghcr.io/a/b,target=/a --mount=from=quay.io/c,type=bind,target=/c true", nil, []string{"ghcr.io", "quay.io"}},
		{"a mount in capitals", "FROM scratch\nRUN --mount=TYPE=bind,FROM=ghcr.io/a/b,TARGET=/a true", nil, []string{"ghcr.io"}},
		{"a quoted mount", "FROM scratch\nRUN --mount=type=bind,\"from=ghcr.io/a/b\",target=/a true", nil, []string{"ghcr.io"}},
		{"a variable in a mount, by a stage", "ARG R=ghcr.io\nFROM $R/a AS tools\nFROM scratch\nRUN --mount=type=bind,from=tools,target=/a true", map[string]string{"R": "quay.io"}, []string{"quay.io"}},
		{"mounts of stages and of the context", "FROM scratch AS s\nFROM scratch\nRUN --mount=type=bind,from=s,target=/a --mount=target=/b --mount=type=cache,target=/c true", nil, nil},
		{"a mount in a command", "FROM scratch\nRUN echo --mount=type=bind,from=ghcr.io/a/b", nil, nil},
		{"a here-document", "FROM scratch\nRUN <<EOF\nFROM ghcr.io/a\nCOPY --from=ghcr.io/a /a /a\nEOF\nCOPY <<EOF /f\nFROM quay.io/a\nEOF", nil, nil},
		{"a comment", "FROM scratch\n# COPY --from=ghcr.io/a /a /a\nRUN true \\\n# FROM ghcr.io/a\n  && true", nil, nil},
		{"another escape", "# escape=`\nFROM scratch\nRUN true `\nFROM ghcr.io/a\nCOPY --from=quay`\n.io/a /a /a", nil, []string{"quay.io"}},
		{"an escaped variable", "FROM scratch\nARG R=ghcr.io\nCOPY --from=quay.io/a \\$R/a /a/", nil, []string{"quay.io"}},
		{"continued lines", "FROM scratch\nRUN --mount=type=bind,from=ghcr.io/a/b,target=/a \\ \n# a comment\n  --mount=type=bind,from=quay.io/c,target=/c \\\n true\nCOPY \\\n --from=gcr.io/d /d /d", nil, []string{"gcr.io", "ghcr.io", "quay.io"}},
		{"ONBUILD", "FROM scratch\nONBUILD COPY --from=ghcr.io/a /a /a", nil, nil},
		{"a stage that nothing needs", "FROM ghcr.io/a AS unused\nFROM quay.io/b", nil, []string{"quay.io"}},
	} {
		got, err := sourcesOf(&client.BuildRequest{Dockerfile: c.text, BuildArgs: c.args})
		if err != nil || !slices.Equal(got.registries, c.want) {
			t.Errorf("%s: got %q, %v; want %q", c.name, got.registries, err, c.want)
		}
	}
}

// TestTargetAndBaseDecideOnRegistries: a build without its last stage, or with another base, has
// other images.
func TestTargetAndBaseDecideOnRegistries(t *testing.T) {
	const text = "FROM ghcr.io/a AS a\nFROM quay.io/b AS b\nCOPY --from=gcr.io/c /c /c"
	for _, c := range []struct {
		name string
		req  client.BuildRequest
		want string
	}{
		{"a target", client.BuildRequest{Dockerfile: text, Target: "a"}, "ghcr.io"},
		{"another image", client.BuildRequest{Dockerfile: text, From: &client.TemplateBase{Image: "debian:13"}}, "docker.io gcr.io"},
		{"a template", client.BuildRequest{Dockerfile: text, From: &client.TemplateBase{Template: "base"}}, "gcr.io"},
		{"an archive", client.BuildRequest{Dockerfile: text, From: &client.TemplateBase{Archive: digestOfNothing}}, "gcr.io"},
		{"an image alone", client.BuildRequest{From: &client.TemplateBase{Image: "ghcr.io/d"}}, "ghcr.io"},
		{"a template alone", client.BuildRequest{From: &client.TemplateBase{Template: "base"}}, ""},
	} {
		got, err := sourcesOf(&c.req)
		if err != nil || strings.Join(got.registries, " ") != c.want {
			t.Errorf("%s: got %q, %v; want %q", c.name, got.registries, err, c.want)
		}
	}
}

// TestUnreadableTextsHaveNoRegistries: a text that the server refuses gets no credentials.
func TestUnreadableTextsHaveNoRegistries(t *testing.T) {
	for _, text := range []string{
		"FROM ghcr.io/a\nFORM x", "FROM $UNSET", "FROM A B", "FROM ghcr.io/a\nCOPY --from=$UNSET/b /b /b", "COPY . /",
		"FROM ghcr.io/a\nRUN --mount=type=bind,from=${UNSET}/b,target=/b true", "FROM ghcr.io/a\nRUN <<EOF\ntrue",
		"FROM ghcr.io/a\nARG R=quay.io\nRUN --mount=type=bind,from=${R}/b,target=/b true", // BuildKit expands none here
	} {
		if got, err := sourcesOf(&client.BuildRequest{Dockerfile: text}); err == nil || got.registries != nil {
			t.Errorf("%q: got %q, want an error", text, got.registries)
		}
	}
}

func TestOnlySomeDockerfilesTakeFiles(t *testing.T) {
	for text, want := range map[string]bool{
		"FROM a\nRUN b":                                                false,
		"FROM a\n  copy . /":                                           true,
		"FROM a\nADD x /":                                              true,
		"FROM a\nCO\\\nPY x /":                                         true,
		"FROM a\nONBUILD COPY . /":                                     false,
		"FROM a\nRUN --mount=type=secret,id=a cat":                     false,
		"FROM a\nRUN --mount=type=bind,target=/src ls /src":            true,
		"FROM a AS s\nFROM b\nCOPY --from=s . /":                       false,
		"FROM a AS s\nCOPY . /\nFROM b":                                false,
		"FROM a\nRUN echo COPY . /":                                    false,
		"FROM a\nRUN <<EOF\nCOPY . /\nEOF":                             false,
		"FROM a\nCOPY <<EOF /f\ntext\nEOF":                             false,
		"FROM a\nCOPY <<EOF x /d/\ntext\nEOF":                          true,
		"FROM template:minimal\nRUN --mount=type=tmpfs,target=/t true": false,
	} {
		got, err := sourcesOf(&client.BuildRequest{Dockerfile: text})
		if err != nil || got.takesFiles != want {
			t.Errorf("%q: got %t, %v; want %t", text, got.takesFiles, err, want)
		}
	}
}
