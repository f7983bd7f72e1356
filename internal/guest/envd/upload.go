package envd

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guest/agent"
	"github.com/wrenn-dev/wrenn/internal/guest/filesystem"
)

const (
	// maxUploadParts bounds the files of one multipart request.
	maxUploadParts = 10_000
	// partBuffer is the size of the pieces, in bytes, in which a multipart body is read.
	partBuffer = 32 << 10
)

// written is one element of the answer to POST /files.
type written struct {
	Path     string            `json:"path"`
	Name     string            `json:"name"`
	Type     string            `json:"type"`
	Metadata map[string]string `json:"metadata,omitempty"`
}

// upload is one POST /files under way.
type upload struct {
	agent    *agent.Agent
	actor    agent.Actor
	path     string // from the query; may be empty
	mode     *uint32
	metadata map[string]string
	done     []written
}

// upload serves POST /files.
func (s *Server) upload(w http.ResponseWriter, r *http.Request) {
	u, err := s.newUpload(r)
	if err == nil {
		err = u.receive(w, r)
	}
	if err != nil {
		writeFault(w, err)
		return
	}
	writeJSON(w, http.StatusOK, u.done)
}

func (s *Server) newUpload(r *http.Request) (*upload, error) {
	q := r.URL.Query()
	actor, err := s.actorNamed(r.Context(), q.Get("username"))
	if err != nil {
		return nil, err
	}
	mode, err := parseMode(q.Get("mode"))
	if err != nil {
		return nil, err
	}
	u := &upload{agent: s.agent, actor: actor, path: q.Get("path"), mode: mode, metadata: metadataOf(r.Header)}
	return u, filesystem.ValidateMetadata(u.metadata)
}

// parseMode reads permission bits in octal. Empty is nil.
func parseMode(v string) (*uint32, error) {
	if v == "" {
		return nil, nil
	}
	n, err := strconv.ParseUint(v, 8, 32)
	if err != nil || n > 0o777 {
		return nil, fault.New(fault.Invalid, "invalid_mode", "mode must be permission bits in octal, at most 777")
	}
	mode := uint32(n)
	return &mode, nil
}

// metadataOf collects the headers X-Metadata-<key>.
func metadataOf(h http.Header) map[string]string {
	var m map[string]string
	for name, values := range h {
		key, ok := strings.CutPrefix(name, "X-Metadata-")
		if !ok || len(values) == 0 {
			continue
		}
		if m == nil {
			m = make(map[string]string)
		}
		m[strings.ToLower(key)] = values[0]
	}
	return m
}

// receive stores the files of the body as its type says.
func (u *upload) receive(w http.ResponseWriter, r *http.Request) error {
	body, err := decode(r.Header.Get("Content-Encoding"), &patientBody{
		ctx: r.Context(), body: r.Body, control: http.NewResponseController(w),
	})
	if err != nil {
		return err
	}
	mediaType, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return fault.Wrap(err, fault.Invalid, "invalid_content_type", "Content-Type is missing or malformed")
	}
	switch mediaType {
	case "application/octet-stream":
		if u.path == "" {
			return fault.New(fault.Invalid, "invalid_path", "path is required")
		}
		return u.store(u.path, body)
	case "multipart/form-data":
		// The reader of parts asks for small pieces.
		return u.receiveParts(multipart.NewReader(bufio.NewReaderSize(body, partBuffer), params["boundary"]))
	default:
		return fault.New(fault.Invalid, "invalid_content_type", "Content-Type must be multipart/form-data or application/octet-stream")
	}
}

func (u *upload) receiveParts(parts *multipart.Reader) error {
	u.done = []written{}
	for range maxUploadParts {
		part, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return agent.UploadFault(err)
		}
		_, params, err := mime.ParseMediaType(part.Header.Get("Content-Disposition"))
		if err != nil || params["name"] != "file" {
			continue
		}
		path := u.path
		if path == "" {
			// Part.FileName would strip the directories.
			path = params["filename"]
		}
		if path == "" {
			return fault.New(fault.Invalid, "invalid_path", "a part needs a filename when the query has no path")
		}
		if err := u.store(path, &filled{r: part}); err != nil {
			return err
		}
	}
	return fault.New(fault.TooLarge, "too_many_parts", "a request may carry at most %d files", maxUploadParts)
}

// store writes one file.
func (u *upload) store(path string, content io.Reader) error {
	w, err := u.actor.FileToWrite(path, u.mode)
	if err != nil {
		return err
	}
	w.Metadata = u.metadata
	if slices.ContainsFunc(u.done, func(f written) bool { return f.Path == w.Path }) {
		return fault.New(fault.Invalid, "duplicate_path", "two parts are meant for '%s'", w.Path)
	}
	_, err = u.agent.Files().Write(w, classifiedReader{content})
	if err != nil {
		return err
	}
	u.done = append(u.done, written{Path: w.Path, Name: filepath.Base(w.Path), Type: "file", Metadata: u.metadata})
	return nil
}

// decode undoes a content encoding.
func decode(encoding string, body io.Reader) (io.Reader, error) {
	switch strings.ToLower(encoding) {
	case "", "identity":
		return body, nil
	case "gzip":
		zr, err := gzip.NewReader(body)
		if err != nil {
			return nil, agent.UploadFault(err)
		}
		return zr, nil
	default:
		return nil, fault.New(fault.Invalid, "invalid_content_encoding", "Content-Encoding must be gzip or identity")
	}
}

// classifiedReader marks errors of the body as the sender's, so that they are not
// taken for errors of the disk.
type classifiedReader struct{ r io.Reader }

func (c classifiedReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = agent.UploadFault(err)
	}
	return n, err
}

// filled fills each read of r, whose own pieces are small: each piece of a file is a
// write to the disk.
type filled struct {
	r   io.Reader
	err error // of r, after the bytes before it
}

// Read implements io.Reader.
func (f *filled) Read(p []byte) (n int, err error) {
	for n < len(p) && f.err == nil {
		var got int
		got, f.err = f.r.Read(p[n:])
		n += got
	}
	if n > 0 || len(p) == 0 {
		return n, nil
	}
	return 0, f.err
}

// patientBody gives each read of a body the time of agent.UploadIdleLimit.
type patientBody struct {
	ctx     context.Context
	body    io.Reader
	control *http.ResponseController
}

func (b *patientBody) Read(p []byte) (int, error) {
	_ = b.control.SetReadDeadline(time.Now().Add(agent.UploadIdleLimit))
	// After the deadline was set: the end of ctx sets it to the past afterwards.
	if b.ctx.Err() != nil {
		return 0, context.Cause(b.ctx)
	}
	return b.body.Read(p)
}
