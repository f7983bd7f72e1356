package host_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// TestImportOverTheWire sends an archive of several messages, and a reference, from the
// control plane's client to the host's images.
func TestImportOverTheWire(t *testing.T) {
	b := newPortBench(t)
	content := strings.Repeat("0123456789abcdef", 100<<10)
	for _, c := range []struct {
		src     control.ImageSource
		content io.Reader
		bytes   string
	}{
		{control.ImageSource{}, strings.NewReader(content), content},
		{control.ImageSource{Reference: "python:3", Username: "u", Password: "p"}, nil, "python:3"},
	} {
		var seen []control.ImageProgress
		got, err := b.client.ImportImage(t.Context(), c.src, c.content, func(p control.ImageProgress) { seen = append(seen, p) })
		check(t, err)
		sum := fmt.Sprintf("%x", sha256.Sum256([]byte(c.bytes)))
		want := control.HostImage{
			Name: "oci-" + sum[:32], Digest: "sha256:" + sum, Env: []string{"A=b"}, User: c.src.Username, Workdir: "/w", Cmd: []string{"c"},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("image (-want +got):\n%s", diff)
		}
		n := int64(len(c.bytes))
		if diff := cmp.Diff([]control.ImageProgress{{Stage: "unpack", Done: n, Total: n}}, seen); diff != "" {
			t.Errorf("progress (-want +got):\n%s", diff)
		}
	}
	none := func(control.ImageProgress) {}
	if _, err := b.client.ImportImage(t.Context(), control.ImageSource{Reference: "none"}, nil, none); fault.ReasonOf(err) != "image_not_found" {
		t.Errorf("of a missing image: got %v, want image_not_found", err)
	}
	broken := errors.New("the upload broke")
	_, err := b.client.ImportImage(t.Context(), control.ImageSource{}, io.MultiReader(strings.NewReader(content), brokenReader{broken}), none)
	if !errors.Is(err, broken) {
		t.Errorf("of content that breaks: got %v, want its error", err)
	}
}

// brokenReader is a reader that fails.
type brokenReader struct{ err error }

func (r brokenReader) Read([]byte) (int, error) { return 0, r.err }
