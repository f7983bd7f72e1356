package runsc

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/kept"
	"github.com/wrenn-dev/wrenn/internal/linux/filesum"
	"github.com/wrenn-dev/wrenn/internal/untrusted"
)

// Installed is a program runsc outside of the store.
type Installed struct {
	// Path is the program, without symbolic links in it.
	Path string
	// Version is the version that it reports, Digest its SHA-256.
	Version, Digest string
	// SidecarNames are the files in the directory gvisor-bin beside it, and Sidecars
	// a SHA-256 over them. Both are empty if there is no such directory.
	SidecarNames []string
	Sidecars     string

	// immutable is set for files that nobody changes in place.
	immutable bool
}

// Source says where the current program comes from.
type Source struct {
	// Program is the path of the operator's own runsc. If it is empty, the newest
	// build in the directory Built is used, which `make runsc` fills.
	Program, Built string
	// Flags are the other flags that the program has to know.
	Flags []string
}

// Find returns the current program after running it for its version. The error is
// of kind Unsupported. Its reason is "vmm_missing" if there is no program, and
// "vmm_not_executable" or "vmm_version" if it cannot be used.
func (s Source) Find(ctx context.Context) (Installed, error) {
	in, err := s.locate()
	if err != nil {
		return Installed{}, err
	}
	if in.SidecarNames, err = sidecarsIn(in.sidecars()); err != nil {
		return Installed{}, errUnusable(err, in.Path)
	}
	if in.Version, err = s.version(ctx, in); err != nil {
		return Installed{}, err
	}
	if in.Digest, _, err = filesum.SHA256(in.Path); err != nil {
		return Installed{}, errUnusable(err, in.Path)
	}
	if in.Sidecars, err = sumSidecars(in.sidecars()); err != nil {
		return Installed{}, errUnusable(err, in.Path)
	}
	return in, nil
}

func errUnusable(err error, path string) error {
	return fault.Wrap(err, fault.Unsupported, "vmm_not_executable",
		"%s cannot be used as runsc; give --runsc the path of an installed release of gVisor", path)
}

// locate returns the current program by its path alone.
func (s Source) locate() (Installed, error) {
	if s.Program == "" {
		return s.newest()
	}
	path, err := filepath.Abs(s.Program)
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		return Installed{}, fault.Wrap(err, fault.Unsupported, "vmm_missing",
			"there is no program %s; give --runsc the path of an installed release of gVisor", s.Program)
	}
	if st, err := os.Stat(path); err != nil || !st.Mode().IsRegular() || st.Mode()&0o111 == 0 {
		return Installed{}, errUnusable(err, s.Program)
	}
	return Installed{Path: path}, nil
}

// newest returns the newest program in the directory Built that its description
// fits.
func (s Source) newest() (Installed, error) {
	entries, err := os.ReadDir(s.Built)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Installed{}, err
	}
	var found Installed
	var made time.Time
	for _, e := range entries {
		dir := filepath.Join(s.Built, e.Name())
		st, err := os.Stat(filepath.Join(dir, kept.Description))
		if err != nil || !kept.IsID(e.Name()) || found.Path != "" && st.ModTime().Before(made) {
			continue
		}
		found, made = Installed{Path: filepath.Join(dir, programFile), immutable: true}, st.ModTime()
	}
	if found.Path == "" {
		return found, fault.New(fault.Unsupported, "vmm_missing", `runsc has not been built on this host; run "make runsc"`)
	}
	return found, found.checkBuilt()
}

// checkBuilt compares a program that `make runsc` has made with its description.
func (in Installed) checkBuilt() error {
	var about struct{ Digest string }
	data, err := os.ReadFile(filepath.Join(filepath.Dir(in.Path), kept.Description))
	if err == nil {
		err = json.Unmarshal(data, &about)
	}
	sum := ""
	if err == nil {
		sum, _, err = filesum.SHA256(in.Path)
	}
	if err != nil || sum != about.Digest {
		return fault.Wrap(err, fault.Unsupported, "vmm_not_executable",
			`the program %s is not the one that was built; run "make runsc" to repair it`, in.Path)
	}
	return nil
}

// sidecars is the directory in which the program looks for its sidecars.
func (in Installed) sidecars() string { return filepath.Join(filepath.Dir(in.Path), sidecarDir) }

// sidecarsIn returns the names of the files in a directory of sidecars, which need
// not exist.
func sidecarsIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		// Stat follows links, because packagers use them.
		st, err := os.Stat(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		if st.Mode().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// sumSidecars returns a SHA-256 over the names and contents of the files in dir, or
// nothing if there are none.
func sumSidecars(dir string) (string, error) {
	names, err := sidecarsIn(dir)
	if err != nil || len(names) == 0 {
		return "", err
	}
	all := sha256.New()
	for _, name := range names { // ReadDir sorts them
		sum, _, err := filesum.SHA256(filepath.Join(dir, name))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(all, "%s %s\n", sum, name)
	}
	return hex.EncodeToString(all.Sum(nil)), nil
}

// versionTimeout bounds the call that asks a program for its version.
const versionTimeout = 20 * time.Second

// messageBytes bounds the messages of a program in an error.
const messageBytes = 300

var versionLine = regexp.MustCompile(`(?m)^runsc version (\S+)$`)

// version runs the program with all flags of the driver, and asks for its version.
func (s Source) version(ctx context.Context, in Installed) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	args := append(sidecarFlags(len(in.SidecarNames) > 0), s.Flags...)
	cmd := exec.CommandContext(ctx, in.Path, append(args, "--version")...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		first := untrusted.Line(string(out), messageBytes)
		return "", fault.Wrap(fmt.Errorf("%w: %s", err, first), fault.Unsupported, "vmm_version",
			"%s does not run with the flags that Wrenn needs (%s); use the release that tools/gvisor/go.mod names, or a later one with its gvisor-bin directory",
			in.Path, first)
	}
	m := versionLine.FindSubmatch(out)
	if m == nil {
		return "", fault.New(fault.Unsupported, "vmm_version", "%s names no version of runsc; give --runsc the path of an installed release of gVisor", in.Path)
	}
	return untrusted.Line(string(m[1]), messageBytes), nil
}
