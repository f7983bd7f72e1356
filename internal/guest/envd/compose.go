package envd

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"path/filepath"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guest/agent"
	"github.com/wrenn-dev/wrenn/internal/guest/filesystem"
)

const (
	// maxSources bounds the files of one composition.
	maxSources = 1000
	// maxComposeBytes bounds the body of a request to compose, in bytes.
	maxComposeBytes = 4 << 20
)

// composition is the body of POST /files/compose.
type composition struct {
	Sources     []string `json:"source_paths"`
	Destination string   `json:"destination"`
	Username    string   `json:"username"`
}

// compose serves POST /files/compose: it writes the concatenation of files to another
// one, or to one of them. The destination changes when all of them have been read.
func (s *Server) compose(w http.ResponseWriter, r *http.Request) {
	done, err := s.composed(w, r)
	if err != nil {
		writeFault(w, err)
		return
	}
	writeJSON(w, http.StatusOK, done)
}

func (s *Server) composed(w http.ResponseWriter, r *http.Request) (written, error) {
	var c composition
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxComposeBytes)).Decode(&c); err != nil {
		return written{}, fault.Wrap(err, fault.Invalid, "invalid_message", "the body must be a JSON object with source_paths and destination, of at most %d bytes", maxComposeBytes)
	}
	if len(c.Sources) == 0 || len(c.Sources) > maxSources {
		return written{}, fault.New(fault.Invalid, "invalid_path", "source_paths must name from 1 to %d files", maxSources)
	}
	actor, err := s.actorNamed(r.Context(), c.Username)
	if err != nil {
		return written{}, err
	}
	to, err := actor.FileToWrite(c.Destination, nil)
	if err != nil {
		return written{}, err
	}
	sources := &concatenation{files: s.agent.Files(), actor: actor, paths: c.Sources}
	defer sources.close()
	if _, err := s.agent.Files().Write(to, sources); err != nil {
		return written{}, err
	}
	return written{Path: to.Path, Name: filepath.Base(to.Path), Type: "file"}, nil
}

// concatenation reads files one after the other, of which one is open at a time.
type concatenation struct {
	files *filesystem.Files
	actor agent.Actor
	paths []string // those that are not open yet
	open  *filesystem.Content
}

// Read implements io.Reader.
func (c *concatenation) Read(p []byte) (int, error) {
	for {
		if c.open == nil {
			if len(c.paths) == 0 {
				return 0, io.EOF
			}
			path, err := c.actor.Resolve(c.paths[0])
			if err != nil {
				return 0, err
			}
			if c.open, err = c.files.Open(path); err != nil {
				return 0, err
			}
			c.paths = c.paths[1:]
		}
		n, err := c.open.Read(p)
		if errors.Is(err, io.EOF) {
			c.close()
			err = nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func (c *concatenation) close() {
	if c.open != nil {
		_ = c.open.Close()
		c.open = nil
	}
}
