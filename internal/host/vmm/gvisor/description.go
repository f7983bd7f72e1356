package gvisor

import (
	"encoding/json"
	"os"
	"path/filepath"
)

// description holds the facts about a running sandbox that a later agent needs. It
// is a file in the sandbox's directory.
type description struct {
	// Build is the ID of the build, see runsc.Build.
	Build string `json:"build"`
	// UID is the user id of the sandbox's processes.
	UID int `json:"uid"`
	// Seal is the seal of its snapshots, without files.
	Seal seal `json:"seal"`
}

func descriptionPath(dir string) string { return filepath.Join(dir, "sandbox.json") }

func (d description) write(dir string) error {
	data, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return os.WriteFile(descriptionPath(dir), data, 0o600)
}

func readDescription(dir string) (d description, err error) {
	data, err := os.ReadFile(descriptionPath(dir))
	if err != nil {
		return d, err
	}
	return d, json.Unmarshal(data, &d)
}
