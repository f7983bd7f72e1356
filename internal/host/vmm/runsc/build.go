package runsc

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// The names in the directory of a build.
const (
	programFile = "runsc"
	sidecarDir  = "gvisor-bin" // runsc looks for it beside itself
	agentFile   = "agent.erofs"
	buildFile   = "build.json"
)

// Build is a kept program with an image of the guest agent. It is immutable.
type Build struct {
	// ID names the build and its directory. It is derived from the digests below.
	ID string `json:"id"`
	// Version is the version that the program reports, for people.
	Version string `json:"version"`
	// Digest is the SHA-256 of the program, Agent that of the agent's image.
	Digest string `json:"digest"`
	Agent  string `json:"agent"`
	// Sidecars is a SHA-256 over the names and contents of the program's sidecars.
	// It is empty where the program has none beside it.
	Sidecars string `json:"sidecars,omitempty"`
	// Dir is the directory of the build.
	Dir string `json:"-"`

	made time.Time
}

// Program is the path of runsc.
func (b Build) Program() string { return filepath.Join(b.Dir, programFile) }

// AgentImage is the path of the image of the guest agent.
func (b Build) AgentImage() string { return filepath.Join(b.Dir, agentFile) }

// Firmware identifies the parts of the build beside the program.
func (b Build) Firmware() string {
	sum := sha256.Sum256([]byte(b.Agent + " " + b.Sidecars))
	return hex.EncodeToString(sum[:])[:idLength]
}

// Bytes is the space that the files of the build take, in bytes. It leaves out those
// that are being removed.
func (b Build) Bytes() (total int64) {
	_ = filepath.WalkDir(b.Dir, func(_ string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil
		}
		if info, err := e.Info(); err == nil {
			total += info.Size()
		}
		return nil
	})
	return total
}

// Flags are the flags that the program needs to find its sidecars.
func (b Build) Flags() []string { return sidecarFlags(b.Sidecars != "") }

// sidecarFlags returns the flags for a program with or without a directory of
// sidecars. A build of the Go module has none, and has to be asked for the copies
// that are embedded in it.
func sidecarFlags(beside bool) []string {
	if beside {
		return nil
	}
	return []string{"--sidecar-usage-policy=LEGACY_DEPRECATED_SLOW_EMBEDDED_FALLBACK"}
}

// idLength is the number of hexadecimal digits of an id.
const idLength = 32

var idPattern = regexp.MustCompile(`^[0-9a-f]{32}$`)

// ContentID derives the ID of b from its digests.
func (b Build) ContentID() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %s\n", b.Digest, b.Agent, b.Sidecars))
	return hex.EncodeToString(sum[:])[:idLength]
}

// read returns the build in dir.
func read(dir string) (Build, error) {
	path := filepath.Join(dir, buildFile)
	st, err := os.Stat(path)
	if err != nil {
		return Build{}, err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return Build{}, err
	}
	b := Build{}
	if err := json.Unmarshal(data, &b); err != nil || b.ID != filepath.Base(dir) || b.ID != b.ContentID() || len(b.Agent) != sha256.Size*2 {
		return Build{}, errDamaged(err, filepath.Base(dir))
	}
	b.Dir, b.made = dir, st.ModTime()
	return b, nil
}

const reasonDamaged = "vmm_build_damaged"

func errDamaged(err error, id string) error {
	return fault.Wrap(err, fault.HostFailed, reasonDamaged,
		"the kept build %s of runsc is damaged: its files are not the ones that were kept; restart the host agent to copy it again", id)
}
