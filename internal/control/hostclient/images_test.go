package hostclient_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"

	hostv1 "github.com/wrenn-dev/wrenn/api/gen/host/v1"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/fault/faultrpc"
)

// importStream is the agent's side of an import.
type importStream = connect.BidiStream[hostv1.ImportImageRequest, hostv1.ImportImageResponse]

// answerImport reads an archive to its end and answers with progress and the image.
func answerImport(got *hostv1.ImportImageOpen, archive *bytes.Buffer) func(*importStream) error {
	return func(s *importStream) error {
		first, err := s.Receive()
		if err != nil {
			return err
		}
		*got = hostv1.ImportImageOpen{Source: first.GetOpen().GetSource()}
		for {
			m, err := s.Receive()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			archive.Write(m.GetChunk())
		}
		progress := &hostv1.ImportProgress{Stage: "pull", Done: 1, Total: 2}
		if err := s.Send(&hostv1.ImportImageResponse{Event: &hostv1.ImportImageResponse_Progress{Progress: progress}}); err != nil {
			return err
		}
		return s.Send(&hostv1.ImportImageResponse{Event: &hostv1.ImportImageResponse_Image{Image: &hostv1.ImportedImage{
			Name: "oci-1", Digest: "sha256:2", Env: []string{"A=b"}, User: "u", Workdir: "/w", Entrypoint: []string{"e"}, Cmd: []string{"c"},
		}}})
	}
}

func TestImportImage(t *testing.T) {
	content := strings.Repeat("x", 700<<10) // several messages
	for _, src := range []control.ImageSource{{Reference: "python:3", Username: "u", Password: "p"}, {}} {
		var open hostv1.ImportImageOpen
		var archive bytes.Buffer
		client, _ := connectTo(t, &agent{load: answerImport(&open, &archive)})
		var seen []control.ImageProgress
		got, err := client.ImportImage(t.Context(), src, strings.NewReader(content), func(p control.ImageProgress) { seen = append(seen, p) })
		if err != nil {
			t.Fatal(err)
		}
		want := control.HostImage{
			Name: "oci-1", Digest: "sha256:2", Env: []string{"A=b"}, User: "u", Workdir: "/w", Entrypoint: []string{"e"}, Cmd: []string{"c"},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("image (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]control.ImageProgress{{Stage: "pull", Done: 1, Total: 2}}, seen); diff != "" {
			t.Errorf("progress (-want +got):\n%s", diff)
		}
		r := open.GetRegistry()
		if r.GetReference() != src.Reference || r.GetUsername() != src.Username || r.GetPassword() != src.Password {
			t.Errorf("the agent was asked for %v, want %+v", r, src)
		}
		if sent := archive.String(); src.Reference == "" && sent != content || src.Reference != "" && sent != "" {
			t.Errorf("%+v: the agent got %d bytes of an archive", src, len(sent))
		}
	}
}

// TestImportFails: the host's reason arrives while content is being sent, and an error of
// content is returned as it is.
func TestImportFails(t *testing.T) {
	refuse := func(s *importStream) error {
		if _, err := s.Receive(); err != nil {
			return err
		}
		return faultrpc.ToConnect(fault.New(fault.Invalid, "image_damaged", "the image is damaged"))
	}
	none := func(control.ImageProgress) {}
	client, _ := connectTo(t, &agent{load: refuse})
	_, err := client.ImportImage(t.Context(), control.ImageSource{}, strings.NewReader(strings.Repeat("x", 4<<20)), none)
	if fault.ReasonOf(err) != "image_damaged" {
		t.Errorf("got %v, want the host's reason", err)
	}
	broken := errors.New("the upload broke")
	var open hostv1.ImportImageOpen
	client, _ = connectTo(t, &agent{load: answerImport(&open, new(bytes.Buffer))})
	_, err = client.ImportImage(t.Context(), control.ImageSource{}, io.MultiReader(strings.NewReader("abc"), brokenReader{broken}), none)
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want the error of the content", err)
	}
	client, _ = connectTo(t, &agent{load: func(*importStream) error { return nil }})
	if _, err = client.ImportImage(t.Context(), control.ImageSource{Reference: "x"}, nil, none); fault.ReasonOf(err) != "host_protocol" {
		t.Errorf("an answer without an image: got %v, want host_protocol", err)
	}
}

// brokenReader is a reader that fails.
type brokenReader struct{ err error }

func (f brokenReader) Read([]byte) (int, error) { return 0, f.err }
