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

// EnsureAgent returns an image with guest, a static executable, in its root. The
// result depends on guest and on mkfs.erofs alone. It takes some 100 ms. Old images
// are removed, as old initramfs files are; a caller that needs one longer keeps a
// link or a copy.
func (s *Store) EnsureAgent(ctx context.Context, guest []byte) (_ Agent, err error) {
	if len(guest) == 0 {
		return Agent{}, errGuestMissing()
	}
	if err := requireTools("mkfs.erofs"); err != nil {
		return Agent{}, err
	}
	release, err := s.lock(ctx, "agent", Quiet)
	if err != nil {
		return Agent{}, err
	}
	defer release()
	work, err := s.buildDir("agent")
	if err != nil {
		return Agent{}, s.noSpace(err)
	}
	defer func() { err = s.noSpace(errors.Join(err, os.RemoveAll(work))) }()
	packed, err := s.packAgent(ctx, work, guest)
	if err != nil {
		return Agent{}, err
	}
	digest, _, err := filesum.SHA256(packed)
	if err != nil {
		return Agent{}, err
	}
	out := Agent{Path: filepath.Join(s.dir, "agents", digest+".erofs"), Digest: digest}
	if have, _, err := filesum.SHA256(out.Path); err == nil && have == digest {
		now := time.Now()
		return out, os.Chtimes(out.Path, now, now)
	}
	if err := publishFile(packed, out.Path); err != nil {
		return Agent{}, err
	}
	return out, prune(filepath.Dir(out.Path))
}

// packAgent packs guest into an image in work, whose path it returns.
func (s *Store) packAgent(ctx context.Context, work string, guest []byte) (string, error) {
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
	sum := sha256.Sum256(guest)
	return packed, s.packErofs(ctx, tree, packed, "0", hex.EncodeToString(sum[:]), Quiet)
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
