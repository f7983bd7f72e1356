package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log/slog"
)

// published is the part of the settings that programs of root can read in the guest, as
// JSON. A program of the template that checks the access token itself needs no request to
// the public server for it. The reader is the server of the code interpreter.
type published struct {
	// MachineID is the machine id to which the settings belong. A reader that finds another one
	// in /etc/machine-id has those of the sandbox from which its own was copied, and must not use
	// them.
	MachineID string `json:"machine_id"`
	// TokenSHA256 is the digest of EnvdToken in hexadecimal. It is empty if the public
	// server admits no token.
	TokenSHA256 string            `json:"access_token_sha256"`
	Envs        map[string]string `json:"envs"`
}

// publish makes the digest of the public token and the variables in s readable for root.
// Nil wipes them, and so does a guest whose machine id is not known, because the agent has died
// since it was set. A failure is logged and has no other effect, because root of the guest
// can cause one: readers ask the public server if they find no settings.
func (a *Agent) publish(s *Settings) {
	var b []byte
	if id := a.platform.MachineID(); s != nil && id != "" {
		p := published{MachineID: id, Envs: s.Envs}
		if p.Envs == nil {
			p.Envs = map[string]string{}
		}
		if s.EnvdToken != "" {
			digest := sha256.Sum256([]byte(s.EnvdToken))
			p.TokenSHA256 = hex.EncodeToString(digest[:])
		}
		b, _ = json.Marshal(p) // texts cannot fail
	}
	if err := a.platform.PublishSettings(b); err != nil {
		a.log.Warn("publish the settings", slog.Any("error", err))
	}
}
