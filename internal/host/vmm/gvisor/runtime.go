package gvisor

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/linux/filesum"
)

// Runtime is one build of runsc. It is immutable. scripts/runsc.sh makes it.
type Runtime struct {
	// ID names the build and its directory: the first half of Digest.
	ID string `json:"id"`
	// Version is the version of the module, which the program reports as its own.
	Version string `json:"version"`
	// Digest is the SHA-256 of the program.
	Digest string `json:"digest"`

	dir  string
	made time.Time
}

// Program is the path of runsc.
func (r Runtime) Program() string { return filepath.Join(r.dir, "runsc") }

// runtimes is a directory of builds. It is safe for concurrent use.
type runtimes struct {
	dir string

	mu       sync.Mutex      // protects the following
	verified map[string]bool // builds whose program this process has read and found whole
}

var runtimeID = regexp.MustCompile(`^[0-9a-f]{32}$`)

// list returns the builds, the newest first.
func (r *runtimes) list() ([]Runtime, error) {
	entries, err := os.ReadDir(r.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var found []Runtime
	for _, e := range entries {
		if !runtimeID.MatchString(e.Name()) {
			continue
		}
		one, err := readRuntime(filepath.Join(r.dir, e.Name()))
		if errors.Is(err, os.ErrNotExist) {
			continue // being removed
		}
		if err != nil {
			return nil, err
		}
		found = append(found, one)
	}
	slices.SortStableFunc(found, func(a, b Runtime) int { return b.made.Compare(a.made) })
	return found, nil
}

func readRuntime(dir string) (Runtime, error) {
	path := filepath.Join(dir, "build.json")
	st, err := os.Stat(path)
	if err != nil {
		return Runtime{}, err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return Runtime{}, err
	}
	r := Runtime{}
	if err := json.Unmarshal(data, &r); err != nil || r.ID != filepath.Base(dir) {
		return Runtime{}, errRuntimeDamaged(err, filepath.Base(dir))
	}
	r.dir, r.made = dir, st.ModTime()
	return r, nil
}

// find returns the build id, or the newest one for no id.
func (r *runtimes) find(id string) (Runtime, error) {
	found, err := r.list()
	if err != nil {
		return Runtime{}, err
	}
	for _, one := range found {
		if id == "" || one.ID == id {
			return one, nil
		}
	}
	if id == "" {
		return Runtime{}, fault.New(fault.Unsupported, "vmm_missing", `runsc has not been built on this host; run "make runsc"`)
	}
	return Runtime{}, fault.New(fault.WrongState, "vmm_build_missing", "the build %s of runsc is not kept on this host any more", id)
}

// verify reads the program of a build and compares it with its digest, once in the
// life of this process. The error is of kind HostFailed, reason
// "vmm_build_damaged".
func (r *runtimes) verify(one Runtime) error {
	r.mu.Lock()
	done := r.verified[one.ID]
	r.mu.Unlock()
	if done {
		return nil
	}
	sum, _, err := filesum.SHA256(one.Program())
	if err != nil || sum != one.Digest {
		return errRuntimeDamaged(err, one.ID)
	}
	r.mu.Lock()
	r.verified[one.ID] = true
	r.mu.Unlock()
	return nil
}

// remove removes a build. Sandboxes that run under it continue.
func (r *runtimes) remove(id string) error {
	if !runtimeID.MatchString(id) {
		return fault.New(fault.Internal, "internal", "%q is not the id of a build", id)
	}
	r.mu.Lock()
	delete(r.verified, id)
	r.mu.Unlock()
	trash := filepath.Join(r.dir, ".trash-"+id)
	if err := os.Rename(filepath.Join(r.dir, id), trash); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.RemoveAll(trash)
}

func errRuntimeDamaged(err error, id string) error {
	return fault.Wrap(err, fault.HostFailed, "vmm_build_damaged",
		`the build %s of runsc is damaged: its program is not the one that was built; run "make runsc" to repair it`, id)
}
