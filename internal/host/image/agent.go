package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/wrenn-dev/wrenn/internal/linux/durable"
	"github.com/wrenn-dev/wrenn/internal/linux/filesum"
)

// agentProgram is the name of the guest agent in its image.
const agentProgram = "wrenn-guest"

// Agent is a prepared image of the guest agent, which gVisor mounts in its sandboxes.
type Agent struct {
	// Path is the erofs image, with the program wrenn-guest in its root.
	Path string
	// Digest is the SHA-256 of the image.
	Digest string
}

// EnsureAgent returns an image with guest, a static executable, in its root. An image
// that is there is used again, so that an agent can start on a full disk. Otherwise it
// takes some 100 ms. Old images are removed, as old initramfs files are; a caller that
// needs one longer keeps a link or a copy.
func (s *Store) EnsureAgent(ctx context.Context, guest []byte) (_ Agent, err error) {
	if len(guest) == 0 {
		return Agent{}, errGuestMissing()
	}
	release, err := s.lock(ctx, "agent", Quiet)
	if err != nil {
		return Agent{}, err
	}
	defer release()
	sum := sha256.Sum256(guest)
	program := hex.EncodeToString(sum[:])
	if found, ok := s.findAgent(program); ok {
		now := time.Now()
		return found, os.Chtimes(found.Path, now, now)
	}
	if err := requireTools("mkfs.erofs"); err != nil {
		return Agent{}, err
	}
	work, err := s.buildDir("agent")
	if err != nil {
		return Agent{}, s.noSpace(err)
	}
	defer func() { err = s.noSpace(errors.Join(err, os.RemoveAll(work))) }()
	packed, err := s.packAgent(ctx, work, guest, program)
	if err != nil {
		return Agent{}, err
	}
	digest, _, err := filesum.SHA256(packed)
	if err != nil {
		return Agent{}, err
	}
	out := Agent{Path: s.agentPath(program, digest), Digest: digest}
	if err := publishFile(packed, out.Path); err != nil {
		return Agent{}, err
	}
	return out, prune(filepath.Dir(out.Path))
}

// agentPath returns the path of an image of the program, both named by their digests.
func (s *Store) agentPath(program, digest string) string {
	return filepath.Join(s.dir, "agents", program[:16]+"-"+digest+".erofs")
}

// findAgent returns an image of the program that is whole.
func (s *Store) findAgent(program string) (Agent, bool) {
	paths, _ := filepath.Glob(s.agentPath(program, "*")) // fails for bad patterns alone
	for _, path := range paths {
		digest, _, err := filesum.SHA256(path)
		if err == nil && path == s.agentPath(program, digest) {
			return Agent{Path: path, Digest: digest}, true
		}
	}
	return Agent{}, false
}

// packAgent packs guest into an image in work, whose path it returns.
// Its digest identifies it.
func (s *Store) packAgent(ctx context.Context, work string, guest []byte, digest string) (string, error) {
	tree, packed := filepath.Join(work, "root"), filepath.Join(work, "image")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return "", err
	}
	program := filepath.Join(tree, agentProgram)
	if err := os.WriteFile(program, guest, 0o755); err != nil {
		return "", err
	}
	// The modes become those of the image, regardless of the umask.
	if err := errors.Join(os.Chmod(tree, 0o755), os.Chmod(program, 0o755)); err != nil {
		return "", err
	}
	return packed, s.packErofs(ctx, tree, packed, "0", digest, 0, Quiet)
}

// publishFile moves the finished file tmp to path once it is on disk.
func publishFile(tmp, path string) error {
	f, err := os.Open(tmp)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return durable.Sync(filepath.Dir(path))
}
