package e2e

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/client"
	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
)

// TestTemplateBuild builds a template from a Dockerfile with two stages, and creates a
// sandbox from it.
func TestTemplateBuild(t *testing.T) { testTemplateBuild(t, startUp(t), false) }

// TestTemplateBuildOnGVisor tests the same on a server that prefers gVisor, where a boot takes
// less time: the start command runs again after it.
func TestTemplateBuildOnGVisor(t *testing.T) { testTemplateBuild(t, startGVisor(t), true) }

const templateText = `FROM template:minimal AS build
ARG GREETING=hello
WORKDIR /work
COPY page.txt .
RUN echo "$GREETING $(cat page.txt)" > index.html
RUN cp /bin/true tool && chown 7:8 tool && chmod 4755 tool && sleep 1
RUN --mount=target=. --mount=type=bind,source=page.txt,target=/opt/one/page test -s page.txt && test ! -e index.html && cmp page.txt /opt/one/page
RUN test -s index.html && test ! -e /opt/one/page
FROM template:minimal
COPY --from=build /work /srv/www
RUN test "$(stat -c %u:%g:%a /srv/www/tool)" = 7:8:4755
RUN grep -q ^web: /etc/passwd || echo "web:x:1500:1500::/srv:/bin/sh" >> /etc/passwd
WORKDIR /srv/www
ENV STYLE="two words" OWN=template
USER web
RUN --mount=type=secret,id=token test "$(cat /run/secrets/token)" = topsecret
CMD ["python3", "-m", "http.server", "8000"]
HEALTHCHECK CMD python3 -c "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/')"
`

func testTemplateBuild(t *testing.T, s *server, boot bool) {
	t.Helper()
	body := map[string]any{
		"dockerfile": templateText, "context": upload(t, s, map[string]string{"page.txt": "page\n"}),
		"build_args": map[string]string{"GREETING": "good day,"}, "secrets": map[string]string{"token": "topsecret"},
		"vcpus": 1, "memory_mb": 256, "disk_mb": 1024,
	}
	build := buildTemplate(t, s, "site", body)
	log := buildLog(t, s, "site", build)
	if strings.Contains(log, "topsecret") {
		t.Errorf("the log has the secret:\n%s", log)
	}
	sb, err := s.Create(t.Context(), client.CreateRequest{Template: "site", Env: map[string]string{"OWN": "create"}})
	check(t, err)
	if got := sh(t, s.Client, sb.ID, `echo "$STYLE, $OWN"`); got != "two words, create" {
		t.Errorf("the environment: got %q, want that of the template below that of the create", got)
	}
	if got := sh(t, s.Client, sb.ID, "id -un; pwd"); got != "web\n/srv/www" {
		t.Errorf("a command runs as %q, want web in /srv/www", got)
	}
	const ask = `python3 -c "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000/').read().decode())"`
	eventually(t, "the start command answers", func() bool {
		got, err := trySh(t.Context(), s.Client, sb.ID, ask)
		return err == nil && got == "good day, page"
	})
	if boot {
		_, err = s.PauseWithoutMemory(t.Context(), sb.ID)
		check(t, err)
		booted, err := s.Resume(t.Context(), sb.ID)
		check(t, err)
		if got, err := trySh(t.Context(), s.Client, sb.ID, ask); err != nil || got != "good day, page" {
			t.Errorf("the start command after a boot: %q, %v; the restore report is %+v", got, err, booted.RestoreReport)
		}
		const environment = `tr '\0' '\n' < /proc/$(pgrep -of http.server)/environ | grep -E '^(OWN|STYLE)=' | sort`
		if got := sh(t, s.Client, sb.ID, environment); got != "OWN=create\nSTYLE=two words" {
			t.Errorf("the start command after a boot has the environment %q, want that of the sandbox", got)
		}
		testTemplateOfFiles(t, s, sb.ID, ask, "good day, page")
	}
	check(t, s.Destroy(t.Context(), sb.ID))
	again := buildTemplate(t, s, "site", body)
	log = buildLog(t, s, "site", again)
	// Nothing after a step with a secret is cached, and everything before it is.
	for _, line := range strings.Split(log, "\n") {
		if strings.Contains(line, "[stage ") && strings.HasPrefix(line, "CACHED") == strings.Contains(line, "--mount=type=secret") {
			t.Errorf("the second build carried out a step that is cached, or did not carry out the step with the secret: %s", line)
		}
	}
	if strings.Count(log, "CACHED [stage 2") != 6 {
		t.Errorf("the 6 steps of the last stage before the secret are not cached:\n%s", log)
	}
	if boot {
		// The own start command replaces that of the base, whose port it uses.
		buildTemplate(t, s, "child", map[string]any{"dockerfile": childText, "vcpus": 1, "memory_mb": 256, "disk_mb": 1024})
		if a := call(t, s.Client, "DELETE", "/v1/templates/child", nil); a.status != 204 {
			t.Errorf("the delete answered %d %s", a.status, a.body)
		}
	}
	removeTemplate(t, s, "site")
}

// childText is a template on the template of templateText.
const childText = `FROM template:site
USER root
RUN mkdir /srv/child && echo child > /srv/child/index.html
CMD ["python3", "-m", "http.server", "8000", "--directory", "/srv/child"]
HEALTHCHECK CMD python3 -c "import urllib.request as u; assert u.urlopen('http://127.0.0.1:8000/').read() == b'child\n'"
`

// testTemplateOfFiles makes a template of a snapshot without memory. In a sandbox of it the
// start command runs again, and answers ask with want. A build can be based on it.
func testTemplateOfFiles(t *testing.T, s *server, of, ask, want string) {
	t.Helper()
	snap, err := s.CreateSnapshot(t.Context(), of, client.SnapshotRequest{Memory: new(bool)})
	check(t, err)
	_, err = s.TemplateFromSnapshot(t.Context(), snap.ID, "files")
	check(t, err)
	sb, err := s.Create(t.Context(), client.CreateRequest{Template: "files"})
	check(t, err)
	if got, err := trySh(t.Context(), s.Client, sb.ID, ask); err != nil || got != want {
		t.Errorf("the start command in a sandbox of the files: %q, %v; the restore report is %+v", got, err, sb.RestoreReport)
	}
	buildTemplate(t, s, "based", map[string]any{
		"dockerfile": "FROM template:files\nRUN test -s /srv/www/index.html\n", "vcpus": 1, "memory_mb": 256, "disk_mb": 1024,
	})
	if a := call(t, s.Client, "DELETE", "/v1/templates/based", nil); a.status != 204 {
		t.Errorf("the delete answered %d %s", a.status, a.body)
	}
	check(t, s.Destroy(t.Context(), sb.ID))
	check(t, s.RemoveTemplate(t.Context(), snap.ID))
	check(t, s.DeleteSnapshot(t.Context(), snap.ID))
}

// removeTemplate deletes a template, and the layers of all builds.
func removeTemplate(t *testing.T, s *server, name string) {
	t.Helper()
	if a := call(t, s.Client, "DELETE", "/v1/templates/"+name, nil); a.status != 204 {
		t.Errorf("the delete answered %d %s", a.status, a.body)
	}
	dropLayers(t, s)
}

// dropLayers deletes the layers of all builds by a start of the server that keeps none.
func dropLayers(t *testing.T, s *server) {
	t.Helper()
	s.stop(t, syscall.SIGTERM)
	s.args = append(s.args, "--build-cache-layers", "0")
	s.start(t)
	var left []string
	defer func() {
		if len(left) > 0 {
			t.Errorf("layers are left: %v\n%s", left, s.tail(60))
		}
	}()
	eventually(t, "no snapshot is left", func() bool {
		var err error
		left, err = filepath.Glob(filepath.Join(s.dir, "host", "snapshots", "*"))
		return err == nil && len(left) == 0
	})
}

// TestTemplateBuildSurvivesRestart kills the server in the middle of a step.
func TestTemplateBuildSurvivesRestart(t *testing.T) {
	s := startGVisor(t)
	text := "FROM template:minimal\nRUN echo one > /one; sleep 2\nRUN echo two > /two; sleep 20\n"
	a := call(t, s.Client, "POST", "/v1/templates/slow/builds", map[string]any{"dockerfile": text, "vcpus": 1, "memory_mb": 256, "disk_mb": 1024})
	build := a.object(t, 202)["id"].(string)
	eventually(t, "the second step runs", func() bool { return strings.Contains(buildLog(t, s, "slow", build), "2/2] RUN") })
	kill(t, s.cmd.Process.Pid)
	s.wait(t)
	s.start(t)
	awaitBuild(t, s, "slow", build)
	log := buildLog(t, s, "slow", build)
	if !strings.Contains(log, "the build continues from its last layer") || !strings.Contains(log, "CACHED [stage 1 1/2]") {
		t.Errorf("the build did not continue:\n%s", log)
	}
	removeTemplate(t, s, "slow")
}

// upload uploads the files of a build, and returns their digest.
func upload(t *testing.T, s *server, files map[string]string) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range files {
		check(t, w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}))
		_, err := w.Write([]byte(text))
		check(t, err)
	}
	check(t, w.Close())
	sum := sha256.Sum256(b.Bytes())
	digest := hex.EncodeToString(sum[:])
	if a := call(t, s.Client, "PUT", "/v1/templates/uploads/"+digest, b.Bytes()); a.status/100 != 2 {
		t.Fatalf("the upload answered %d %s", a.status, a.body)
	}
	return digest
}

// buildTemplate builds a template and returns the id of the build, which must succeed.
func buildTemplate(t *testing.T, s *server, name string, body map[string]any) string {
	t.Helper()
	build := call(t, s.Client, "POST", "/v1/templates/"+name+"/builds", body).object(t, 202)["id"].(string)
	awaitBuild(t, s, name, build)
	return build
}

// awaitBuild waits until a build is ready.
func awaitBuild(t *testing.T, s *server, name, build string) {
	t.Helper()
	var last map[string]any
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(hosttest.Patience(t, 10*time.Minute)) // software emulation is slow
	for last["status"] != "ready" && last["status"] != "error" {
		if time.Now().After(deadline) {
			t.Fatalf("the build has not ended; log:\n%s", buildLog(t, s, name, build))
		}
		<-tick.C
		last = call(t, s.Client, "GET", "/v1/templates/"+name+"/builds/"+build, nil).object(t, 200)
	}
	if last["status"] != "ready" {
		t.Fatalf("the build ended as %v; log:\n%s", last, buildLog(t, s, name, build))
	}
}

// buildLog returns the messages of a build.
func buildLog(t *testing.T, s *server, name, build string) string {
	t.Helper()
	a := call(t, s.Client, "GET", fmt.Sprintf("/v1/templates/%s/builds/%s/logs?limit=1000", name, build), nil)
	var entries []struct{ Message string }
	if a.status != 200 || json.Unmarshal(a.body, &entries) != nil {
		return fmt.Sprintf("the log answered %d %s", a.status, a.body)
	}
	var out strings.Builder
	for _, e := range entries {
		out.WriteString(e.Message + "\n")
	}
	return out.String()
}
