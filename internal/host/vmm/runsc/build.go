package runsc

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/kept"
)

// The names in the directory of a build.
const (
	programFile = "runsc"
	sidecarDir  = "gvisor-bin" // runsc looks for it beside itself
	agentFile   = "agent.erofs"
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
}

// Program is the path of runsc.
func (b Build) Program() string { return filepath.Join(b.Dir, programFile) }

// AgentImage is the path of the image of the guest agent.
func (b Build) AgentImage() string { return filepath.Join(b.Dir, agentFile) }

// Firmware identifies the parts of the build beside the program.
func (b Build) Firmware() string {
	sum := sha256.Sum256([]byte(b.Agent + " " + b.Sidecars))
	return hex.EncodeToString(sum[:])[:kept.IDLength]
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

// ContentID derives the ID of b from its digests.
func (b Build) ContentID() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %s\n", b.Digest, b.Agent, b.Sidecars))
	return hex.EncodeToString(sum[:])[:kept.IDLength]
}

// describes reports whether b, as its description has it, is the build id.
func (b Build) describes(id string) bool {
	return b.ID == id && b.ID == b.ContentID() && len(b.Agent) == sha256.Size*2
}

const reasonDamaged = "vmm_build_damaged"

func errDamaged(err error, id string) error {
	return fault.Wrap(err, fault.HostFailed, reasonDamaged,
		"the kept build %s of runsc is damaged: its files are not the ones that were kept; restart the host agent to copy it again", id)
}
