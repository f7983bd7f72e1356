package oci

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

var wantSettings = Settings{
	Env: []string{"PATH=/bin", "A=b"}, User: "app", Workdir: "/srv", Entrypoint: []string{"/entry"}, Cmd: []string{"serve"},
	Ports: []string{"443/tcp", "80/tcp"},
}

// twoLayers are the layers of a small image, and twoLayersTree its tree.
func twoLayers(t testing.TB) [][]byte {
	return [][]byte{stream(t, reg("bin/sh"), reg("old")), stream(t, reg(".wh.old"), link("sh", "bin/sh"))}
}

const twoLayersTree = "bin/ bin/sh sh->bin/sh"

func TestOpenAndUnpackFromARegistry(t *testing.T) {
	at := serve(t, nil)
	img := imageOf(t, twoLayers(t)...)
	push(t, at+"/team/app:1", img)
	index := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: imageOf(t), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}}},
		mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}})
	ref, err := name.ParseReference(at + "/team/app:all")
	check(t, err)
	check(t, remote.WriteIndex(ref, index))
	digest, err := img.Digest()
	check(t, err)
	mirrors := listing(at)
	mirrors.Mirrors = map[string]Mirror{name.DefaultRegistry: {Host: at, Prefix: "team"}}
	push(t, at+"/team/library/app:1", img)
	for _, c := range []struct {
		policy    Policy
		reference string
	}{
		{listing(at), at + "/team/app:1"}, {listing(at), at + "/team/app:all"}, {listing(at), at + "/team/app@" + digest.String()},
		{listing(at), at + "/team/app:1@" + digest.String()}, {mirrors, "app:1"}, {mirrors, "docker.io/library/app:1"},
	} {
		i, err := Open(t.Context(), c.policy, Limits{}, Remote{Reference: c.reference})
		if err != nil {
			t.Errorf("%s: %v", c.reference, err)
			continue
		}
		if i.Digest != digest.String() {
			t.Errorf("%s: got the digest %s, want %s", c.reference, i.Digest, digest)
		}
		if diff := cmp.Diff(wantSettings, i.Settings); diff != "" {
			t.Errorf("%s: settings (-want +got):\n%s", c.reference, diff)
		}
		j := job(t)
		check(t, i.Unpack(t.Context(), j))
		if got := tell(t, j.Root); got != twoLayersTree {
			t.Errorf("%s: got %q, want %q", c.reference, got, twoLayersTree)
		}
		if rest, _ := filepath.Glob(filepath.Join(j.Scratch, "layer-*")); len(rest) != 0 {
			t.Errorf("%s: the downloads %v remain", c.reference, rest)
		}
		i.Close()
	}
}

// TestRefusals looks at the reasons of images that cannot be used.
func TestRefusals(t *testing.T) {
	at := serve(t, func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case strings.Contains(r.URL.Path, "/secret/"):
			w.WriteHeader(http.StatusForbidden)
		case strings.Contains(r.URL.Path, "/busy/"):
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusTooManyRequests)
		case strings.Contains(r.URL.Path, "/manifests/endless"):
			w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
			for range 100 {
				if _, err := w.Write(bytes.Repeat([]byte(" "), 1<<20)); err != nil {
					return true
				}
			}
		case strings.Contains(r.URL.Path, "/manifests/text"):
			_, _ = io.WriteString(w, "hello")
		case strings.Contains(r.URL.Path, "/manifests/old"):
			_, _ = io.WriteString(w, `{"schemaVersion":1,"fsLayers":[{"blobSum":"sha256:x"}]}`)
		case strings.Contains(r.URL.Path, "/manifests/both"):
			_, _ = io.WriteString(w, `{"schemaVersion":2,"manifests":[],"layers":[]}`)
		case strings.Contains(r.URL.Path, "/manifests/config"):
			_, _ = io.WriteString(w, `{"schemaVersion":2,"config":{"size":52428800,"digest":"sha256:`+strings.Repeat("0", 64)+`"},"layers":[]}`)
		default:
			return false
		}
		return true
	})
	arm, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: "arm64"})
	check(t, err)
	push(t, at+"/a/arm:1", arm)
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: arm, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}}})
	ref, err := name.ParseReference(at + "/a/arm:all")
	check(t, err)
	check(t, remote.WriteIndex(ref, index))
	nested := v1.ImageIndex(mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: imageOf(t)}))
	for range maxIndexDepth {
		nested = mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: nested})
	}
	if ref, err = name.ParseReference(at + "/a/nested:1"); err == nil {
		err = remote.WriteIndex(ref, nested)
	}
	check(t, err)
	long, err := mutate.Config(imageOf(t), v1.Config{Env: []string{"A=" + strings.Repeat("x", maxSettingsBytes)}})
	check(t, err)
	push(t, at+"/a/long:1", long)
	for reference, reason := range map[string]string{
		at + "/a/none:1": "image_not_found", at + "/secret/x:1": "registry_denied", at + "/a/arm:1": "image_platform",
		at + "/a/arm:all": "image_platform", at + "/a/nested:1": "image_damaged", at + "/a/x:endless": "image_too_large",
		at + "/a/x:text": "image_damaged", at + "/a/x:old": "image_format", at + "/a/x:both": "image_damaged",
		at + "/a/x:config": "image_too_large", at + "/a/long:1": "image_too_large", "UPPER": "invalid_image", "": "invalid_image",
		strings.Repeat("x", 2000): "invalid_image", "no-such-host.invalid/x": "registry_not_found",
	} {
		_, err := Open(t.Context(), listing(at), Limits{}, Remote{Reference: reference})
		if reference == "no-such-host.invalid/x" && err != nil && reason != "" {
			continue // the error depends on the resolver of the machine
		}
		wantReason(t, reference, err, reason)
	}
}

// TestSwappedContentIsRefused: a registry cannot give another layer, settings or manifest
// than the digests name.
func TestSwappedContentIsRefused(t *testing.T) {
	var swap atomic.Value
	swap.Store("")
	at := serve(t, func(w http.ResponseWriter, r *http.Request) bool {
		if what := swap.Load().(string); what != "" && strings.HasSuffix(r.URL.Path, what) && r.Method == http.MethodGet {
			_, _ = io.WriteString(w, "something else")
			return true
		}
		return false
	})
	img := imageOf(t, twoLayers(t)...)
	push(t, at+"/a/b:1", img)
	m, err := img.Manifest()
	check(t, err)
	d, err := img.Digest()
	check(t, err)
	for what, path := range map[string]string{"manifest": d.String(), "settings": m.Config.Digest.String(), "layer": m.Layers[1].Digest.String()} {
		swap.Store(path)
		i, err := Open(t.Context(), listing(at), Limits{}, Remote{Reference: at + "/a/b@" + d.String()})
		if err == nil {
			err = i.Unpack(t.Context(), job(t))
		}
		if err == nil {
			t.Errorf("with another %s: got success", what)
		}
	}
	// The digest of a layer's uncompressed bytes is checked as well.
	other, err := mutate.ConfigFile(imageOf(t, stream(t, reg("a"))), &v1.ConfigFile{OS: "linux", Architecture: "amd64", RootFS: v1.RootFS{
		Type: "layers", DiffIDs: []v1.Hash{{Algorithm: "sha256", Hex: strings.Repeat("0", 64)}},
	}})
	check(t, err)
	swap.Store("")
	push(t, at+"/a/diff:1", other)
	i, err := Open(t.Context(), listing(at), Limits{}, Remote{Reference: at + "/a/diff:1"})
	check(t, err)
	wantReason(t, "with another uncompressed digest", i.Unpack(t.Context(), job(t)), "image_damaged")
}

// TestDecompressionHasALimit: a layer of few bytes cannot become many.
func TestDecompressionHasALimit(t *testing.T) {
	bomb := stream(t, text("zeros", strings.Repeat("\x00", 8<<20)))
	trailing := append(stream(t, reg("a")), make([]byte, 8<<20)...)
	at := serve(t, nil)
	for what, layer := range map[string][]byte{"file": bomb, "behind the end": trailing} {
		push(t, at+"/a/bomb:1", imageOf(t, layer))
		i, err := Open(t.Context(), listing(at), Limits{Unpacked: 1 << 20, Entries: 100}, Remote{Reference: at + "/a/bomb:1"})
		check(t, err)
		wantReason(t, what, i.Unpack(t.Context(), job(t)), "image_too_large")
	}
	push(t, at+"/a/layers:1", imageOf(t, stream(t, reg("a")), stream(t, reg("b")), stream(t, reg("c"))))
	_, err := Open(t.Context(), listing(at), Limits{Layers: 2}, Remote{Reference: at + "/a/layers:1"})
	wantReason(t, "three layers", err, "image_too_large")
	_, err = Open(t.Context(), listing(at), Limits{Compressed: 100}, Remote{Reference: at + "/a/layers:1"})
	wantReason(t, "large layers", err, "image_too_large")
	i, err := Open(t.Context(), listing(at), Limits{}, Remote{Reference: at + "/a/layers:1"})
	check(t, err)
	full := errors.New("no room")
	j := job(t)
	j.Room = func() error { return full }
	if err := i.Unpack(t.Context(), j); !errors.Is(err, full) {
		t.Errorf("without room: got %v, want the error of Room", err)
	}
}

// TestNoPrivateAddressIsReached: a registry cannot make the host connect to an address
// that is not public, by no way that HTTP has.
func TestNoPrivateAddressIsReached(t *testing.T) {
	var reached atomic.Int64
	inner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		reached.Add(1)
		_, _ = io.WriteString(w, `{"token":"x"}`)
	}))
	defer inner.Close()
	_, port, err := net.SplitHostPort(strings.TrimPrefix(inner.URL, "http://"))
	check(t, err)
	img := imageOf(t, twoLayers(t)...)
	var mode atomic.Value
	mode.Store("")
	target := inner.URL
	at := serve(t, func(w http.ResponseWriter, r *http.Request) bool {
		switch m := mode.Load().(string); {
		case m == "manifest" && strings.Contains(r.URL.Path, "/manifests/"), m == "blob" && strings.Contains(r.URL.Path, "/blobs/"), m == "ping" && r.URL.Path == "/v2/":
			http.Redirect(w, r, target+"/x", http.StatusTemporaryRedirect)
		case m == "realm" && r.URL.Path == "/v2/":
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+target+`/token",service="s"`)
			w.WriteHeader(http.StatusUnauthorized)
		default:
			return false
		}
		return true
	})
	push(t, at+"/a/b:1", img)
	for _, to := range []string{
		inner.URL, "http://localhost:" + port, "http://[::ffff:127.0.0.1]:" + port, "http://0.0.0.0:" + port, "https://127.0.0.1:" + port,
		"http://169.254.169.254", "https://169.254.169.254", "https://localhost.localdomain:" + port,
	} {
		target = to
		for _, m := range []string{"manifest", "blob", "ping", "realm"} {
			mode.Store(m)
			if _, err := Open(t.Context(), listing(at), Limits{Stall: time.Second}, Remote{Reference: at + "/a/b:1"}); err == nil {
				t.Errorf("%s to %s: got success", m, to)
			}
		}
	}
	mode.Store("")
	for _, reference := range []string{
		strings.TrimPrefix(inner.URL, "http://") + "/x", "localhost:" + port + "/x", "127.0.0.1:" + port + "/x", "[::1]:" + port + "/x",
		"169.254.169.254/x", "10.0.0.1/x", "192.168.1.1:5000/x", "0.0.0.0:" + port + "/x", "[fd00::1]/x", at + "/a/b:1",
	} {
		_, err := Open(t.Context(), Policy{}, Limits{Stall: time.Second}, Remote{Reference: reference})
		wantReason(t, reference, err, "registry_not_allowed")
	}
	// A name that resolves to loopback is found out when it is dialled.
	g := newGuard(Policy{}, Limits{}.withDefaults())
	defer g.close()
	if _, err := g.dial(t.Context(), "tcp", "localhost:"+port); !errors.Is(err, errNotAllowed) {
		t.Errorf("dial of a name on loopback: got %v, want errNotAllowed", err)
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("the server inside was reached %d times", n)
	}
}

func TestPublicAddresses(t *testing.T) {
	for address, want := range map[string]bool{
		"1.1.1.1": true, "2606:4700::1111": true, "8.8.8.8": true, "127.0.0.1": false, "10.1.2.3": false, "172.31.0.1": false,
		"192.168.0.1": false, "169.254.169.254": false, "100.64.0.1": false, "0.0.0.0": false, "224.0.0.1": false, "255.255.255.255": false,
		"::1": false, "::": false, "fe80::1": false, "fd00:ec2::254": false, "::ffff:10.0.0.1": false, "64:ff9b::a9fe:a9fe": false,
		"2002:7f00:1::": false, "::7f00:1": false, "ff02::1": false, "198.18.0.1": false, "240.0.0.1": false,
	} {
		if got := public(netip.MustParseAddr(address)); got != want {
			t.Errorf("public(%s) is %t, want %t", address, got, want)
		}
	}
}

func TestCredentials(t *testing.T) {
	var seen atomic.Value
	seen.Store("")
	at := serve(t, func(w http.ResponseWriter, r *http.Request) bool {
		if a := r.Header.Get("Authorization"); a != "" {
			seen.Store(a)
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	_, err := Open(t.Context(), listing(at), Limits{}, Remote{Reference: at + "/a/b:1"})
	wantReason(t, "without credentials", err, "registry_denied")
	_, err = Open(t.Context(), listing(at), Limits{}, Remote{Reference: at + "/a/b:1", Username: "u", Password: "p"})
	wantReason(t, "with credentials", err, "image_not_found")
	if got := seen.Load(); got != "Basic dTpw" {
		t.Errorf("the registry saw %q, want the credentials", got)
	}
	config := `{"auths":{"` + at + `":{"auth":"aG9zdDpzZWNyZXQ="}}}`
	check(t, os.WriteFile(filepath.Join(os.Getenv("DOCKER_CONFIG"), "config.json"), []byte(config), 0o600))
	_, err = Open(t.Context(), listing(at), Limits{}, Remote{Reference: at + "/a/b:1"})
	wantReason(t, "with Docker's credentials", err, "image_not_found")
	if got := seen.Load(); got != "Basic aG9zdDpzZWNyZXQ=" {
		t.Errorf("the registry saw %q, want Docker's credentials", got)
	}
}

// archives returns the forms of an archive of an image.
func archives(t testing.TB, img v1.Image) map[string][]byte {
	t.Helper()
	dir := t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	check(t, err)
	check(t, p.AppendImage(img))
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	check(t, w.AddFS(os.DirFS(dir)))
	check(t, w.Close())
	var saved bytes.Buffer
	tag, err := name.NewTag("team/app:1")
	check(t, err)
	check(t, tarball.Write(tag, img, &saved))
	return map[string][]byte{"layout": out.Bytes(), "layout, gzip": gzipped(t, out.Bytes()), "saved": saved.Bytes(), "saved, gzip": gzipped(t, saved.Bytes())}
}

func openBytes(t testing.TB, l Limits, b []byte) (*Image, error) {
	t.Helper()
	return OpenArchive(t.Context(), l, t.TempDir(), bytes.NewReader(b), func() error { return nil })
}

func TestOpenArchive(t *testing.T) {
	img := imageOf(t, twoLayers(t)...)
	for form, b := range archives(t, img) {
		i, err := openBytes(t, Limits{}, b)
		if err != nil {
			t.Errorf("%s: %v", form, err)
			continue
		}
		if diff := cmp.Diff(wantSettings, i.Settings); diff != "" {
			t.Errorf("%s: settings (-want +got):\n%s", form, diff)
		}
		j := job(t)
		check(t, i.Unpack(t.Context(), j))
		i.Close()
		if got := tell(t, j.Root); got != twoLayersTree {
			t.Errorf("%s: got %q, want %q", form, got, twoLayersTree)
		}
		for _, size := range []int{0, 10, 512, 5000, len(b) / 2} {
			if _, err := openBytes(t, Limits{}, b[:min(size, len(b)-1)]); err == nil {
				t.Errorf("%s: %d of %d bytes were taken for a whole archive", form, size, len(b))
			}
		}
		_, err = openBytes(t, Limits{Archive: 1000}, b)
		wantReason(t, form+" beyond the limit", err, "image_too_large")
	}
}

// TestArchivesAskForRoom: the room for an archive counts as it is written, and not as it
// is sent.
func TestArchivesAskForRoom(t *testing.T) {
	full := errors.New("no room")
	// These are the smallest archives with a second question: the first is asked before
	// the first byte.
	const every = 1 << 20
	large := gzipped(t, stream(t, text("a", strings.Repeat("a", every+1))))
	dirs := make([]tar.Header, every/entryBytes+2)
	for n := range dirs {
		dirs[n] = folder(fmt.Sprint(n))
	}
	for name, b := range map[string][]byte{"content": large, "directories": gzipped(t, stream(t, dirs...))} {
		if len(b) > every/50 {
			t.Fatalf("%s: the archive has %d bytes, want few", name, len(b))
		}
		asked := 0
		_, err := OpenArchive(t.Context(), Limits{Room: every}, t.TempDir(), bytes.NewReader(b), func() error {
			if asked++; asked == 2 {
				return full
			}
			return nil
		})
		if !errors.Is(err, full) {
			t.Errorf("%s: got %v, want the error of the second question for room", name, err)
		}
	}
}

// TestLayersAskForRoom: directories of a layer need room, though they have no content.
func TestLayersAskForRoom(t *testing.T) {
	full := errors.New("no room")
	asked := 0
	room := func() error {
		if asked++; asked == 2 {
			return full
		}
		return nil
	}
	const every = 1 << 20
	tree, err := newTree(t.TempDir(), Limits{Room: every}.withDefaults(), room)
	check(t, err)
	defer tree.close()
	dirs := make([]tar.Header, every/entryBytes+2)
	for n := range dirs {
		dirs[n] = folder(fmt.Sprint(n))
	}
	if err := tree.apply(bytes.NewReader(stream(t, dirs...))); !errors.Is(err, full) {
		t.Errorf("got %v, want the error of the second question for room", err)
	}
}

func TestHostileArchives(t *testing.T) {
	hash := strings.Repeat("0", 64)
	index := func(descriptor string) tar.Header { return text("index.json", `{"manifests":[`+descriptor+`]}`) }
	large := fmt.Sprintf(`{"mediaType":%q,"digest":"sha256:%s","size":52428800}`, types.OCIManifestSchema1, hash)
	small := fmt.Sprintf(`{"mediaType":%q,"digest":"sha256:%s","size":2}`, types.OCIManifestSchema1, hash)
	blob := "blobs/sha256/" + hash
	saved, err := json.Marshal([]map[string]any{{"Config": "../../etc/passwd", "Layers": []string{}}})
	check(t, err)
	for name, c := range map[string]struct {
		headers []tar.Header
		reason  string
	}{
		"nothing":          {nil, "image_damaged"},
		"parent":           {[]tar.Header{reg("../index.json")}, "image_damaged"},
		"no JSON":          {[]tar.Header{text("index.json", "x")}, "image_damaged"},
		"large manifest":   {[]tar.Header{index(large), text(blob, "{}")}, "image_too_large"},
		"missing blob":     {[]tar.Header{index(small)}, "image_damaged"},
		"other blob":       {[]tar.Header{index(small), text(blob, "{}")}, "image_damaged"},
		"blob is a link":   {[]tar.Header{index(small), link(blob, "/etc/passwd")}, "image_damaged"},
		"blob is a folder": {[]tar.Header{index(small), folder(blob)}, "image_damaged"},
		"two images":       {[]tar.Header{index(small + "," + small)}, "image_ambiguous"},
		"no images":        {[]tar.Header{text("manifest.json", "[]")}, "image_damaged"},
		"settings outside": {[]tar.Header{text("manifest.json", string(saved))}, "image_damaged"},
		"two saved":        {[]tar.Header{text("manifest.json", "[{},{}]")}, "image_ambiguous"},
		"digest as a path": {[]tar.Header{index(`{"digest":"sha256:../../../../etc/passwd","size":10}`)}, "image_damaged"},
	} {
		_, err := openBytes(t, Limits{}, stream(t, c.headers...))
		wantReason(t, name, err, c.reason)
	}
}

func TestParsePolicy(t *testing.T) {
	for s, want := range map[string]Registry{
		"registry.example": {Host: "registry.example"}, "Registry.example:5000,insecure": {Host: "registry.example:5000", Insecure: true},
		"[::1]:5000": {Host: "[::1]:5000"}, "docker.io": {Host: name.DefaultRegistry},
	} {
		if got, err := ParseRegistry(s); err != nil || got != want {
			t.Errorf("ParseRegistry(%q): got %+v, %v, want %+v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "http://x", "x,secure", "x/y", "x:port", "a b"} {
		if _, err := ParseRegistry(s); err == nil {
			t.Errorf("ParseRegistry(%q): got success", s)
		}
	}
	for s, want := range map[string]Mirror{
		"docker.io=mirror.example:5000": {Host: "mirror.example:5000"}, "ghcr.io=cache/a/b": {Host: "cache:443", Prefix: "a/b"},
	} {
		if _, got, err := ParseMirror(s); err != nil || got != want {
			t.Errorf("ParseMirror(%q): got %+v, %v, want %+v", s, got, err, want)
		}
	}
	for _, s := range []string{"docker.io", "=x", "docker.io=", "docker.io=x/", "docker.io=x/UPPER", "docker.io=http://x"} {
		if _, _, err := ParseMirror(s); err == nil {
			t.Errorf("ParseMirror(%q): got success", s)
		}
	}
}
