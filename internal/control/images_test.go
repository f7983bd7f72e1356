package control_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// TestImportImage imports an image on a chosen host and on any host, and finds it among
// the templates that sandboxes can be placed on.
func TestImportImage(t *testing.T) {
	b := setup(t)
	image, host, err := b.ImportImage(t.Context(), "", control.ImageSource{}, strings.NewReader("an archive"), nil)
	if err != nil || host != b.host.id || !strings.HasPrefix(image.Name, "oci-") {
		t.Fatalf("got %+v on %q, %v, want an image on %s", image, host, err, b.host.id)
	}
	hosts, err := b.Hosts(t.Context())
	if err != nil || !slices.Contains(hosts[0].Templates, image.Name) {
		t.Errorf("the host is known to have %v (%v), want %s among them", hosts[0].Templates, err, image.Name)
	}
	if _, _, err := b.ImportImage(t.Context(), "elsewhere", control.ImageSource{Reference: "x"}, nil, nil); fault.ReasonOf(err) != "host_unreachable" {
		t.Errorf("on an unknown host: got %v, want host_unreachable", err)
	}
	broken := errors.New("broken")
	if _, _, err := b.ImportImage(t.Context(), host, control.ImageSource{}, failingReader{broken}, nil); !errors.Is(err, broken) {
		t.Errorf("with content that breaks: got %v, want its error", err)
	}
	b.host.script(true, "import", refuse(fault.New(fault.Forbidden, "registry_denied", "the registry denies it")))
	if _, _, err := b.ImportImage(t.Context(), host, control.ImageSource{Reference: "x"}, nil, nil); fault.ReasonOf(err) != "registry_denied" || !fault.Is(err, fault.Forbidden) {
		t.Errorf("with a registry that denies it: got %v, want the host's fault", err)
	}
}

// failingReader is a reader that fails.
type failingReader struct{ err error }

func (f failingReader) Read([]byte) (int, error) { return 0, f.err }
