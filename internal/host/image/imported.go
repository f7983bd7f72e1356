package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/oci"
	"github.com/wrenn-dev/wrenn/internal/linux/filesum"
)

// ImportedPrefix begins the names of the templates that imports make.
const ImportedPrefix = "oci-"

// importVersion is part of the name of an imported image. It changes when the way of
// importing changes the result.
const importVersion = 1

// maxImports is the number of imports that work at once; others wait.
const maxImports = 2

// importReserve is the space that an import leaves free on the disk, in bytes.
const importReserve = 512 << 20

// Imported are the facts of a container image that was made a template.
type Imported struct {
	// Reference is the place that it came from; empty for an archive.
	Reference string `json:"reference,omitempty"`
	// Digest is that of the image's manifest, see [oci.Image].
	Digest string `json:"digest"`
	oci.Settings
}

// Source is the place of a container image.
type Source struct {
	// Remote is the image in a registry; with an empty reference, the image is in the
	// archive that Content gives, see [oci.OpenArchive].
	Remote  oci.Remote
	Content io.Reader
}

// Import makes a template of a container image, or returns the one that it made before:
// then no layer is fetched. The name of the template follows from the digest of the
// image. Errors are faults.
func (s *Store) Import(ctx context.Context, src Source, progress Progress) (_ Template, err error) {
	if os.Geteuid() != 0 {
		return Template{}, fault.New(fault.Forbidden, "not_root", "images are imported as root; run the agent with sudo")
	}
	if err := requireTools("mkfs.erofs"); err != nil {
		return Template{}, err
	}
	if err := s.requireSpace(importReserve); err != nil {
		return Template{}, err
	}
	select {
	case s.imports <- struct{}{}:
	default:
		progress.report("wait", "other images are being imported")
		select {
		case s.imports <- struct{}{}:
		case <-ctx.Done():
			return Template{}, context.Cause(ctx)
		}
	}
	defer func() { <-s.imports }()
	if src.Remote.Reference == "" {
		return s.importArchive(ctx, src.Content, progress)
	}
	progress.report("resolve", src.Remote.Reference)
	i, err := oci.Open(ctx, s.registries, oci.Limits{}, src.Remote)
	if err != nil {
		return Template{}, err
	}
	defer i.Close()
	return s.importImage(ctx, i, progress)
}

// importArchive unpacks the archive beside the builds: the image's name, and with it the
// lock, is not known before.
func (s *Store) importArchive(ctx context.Context, content io.Reader, progress Progress) (_ Template, err error) {
	progress.report("receive", "")
	dir, release, err := s.receiveDir(ctx)
	if err != nil {
		return Template{}, s.noSpace(err)
	}
	defer func() { err = s.noSpace(errors.Join(err, os.RemoveAll(dir), release())) }()
	i, err := oci.OpenArchive(ctx, oci.Limits{}, dir, content, s.importRoom)
	if err != nil {
		return Template{}, err
	}
	defer i.Close()
	return s.importImage(ctx, i, progress)
}

// receivePrefix begins the names of directories of archives, and of their locks.
const receivePrefix = "receive-"

// receiveDir makes an empty directory of one of maxImports names, whose lock the caller
// holds until release. It removes the remains of a process that has died.
func (s *Store) receiveDir(ctx context.Context) (dir string, release func() error, err error) {
	for n := 0; ; n = (n + 1) % maxImports {
		name := fmt.Sprintf("%s%d", receivePrefix, n)
		soon, cancel := context.WithTimeout(ctx, 2*lockRetry)
		unlock, err := s.lock(soon, name, Quiet)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			continue // another process that shares the store has it
		}
		if err != nil {
			return "", nil, err
		}
		dir, err := s.buildDir(name)
		if err != nil {
			unlock()
			return "", nil, err
		}
		return dir, func() error { unlock(); return nil }, nil
	}
}

// importRoom fails if the disk has less than its reserve free.
func (s *Store) importRoom() error { return s.requireSpace(importReserve) }

// importImage makes the template of i, unless it is there.
func (s *Store) importImage(ctx context.Context, i *oci.Image, progress Progress) (Template, error) {
	id := importID(i.Digest)
	name := ImportedPrefix + id[:32]
	release, err := s.lock(ctx, "template-"+name, progress)
	if err != nil {
		return Template{}, err
	}
	defer release()
	if t, err := s.Template(name); err == nil && t.Imported != nil && t.Imported.Digest == i.Digest && t.intact() {
		return t, s.Use(t)
	}
	return s.buildImported(ctx, i, name, id, progress)
}

// importID identifies an image and the way of importing it.
func importID(digest string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%d\n%d\n", digest, importVersion, builderVersion))
	return hex.EncodeToString(sum[:])
}

// intact reports whether the image file has its size.
func (t Template) intact() bool {
	st, err := os.Stat(t.Path)
	return err == nil && st.Size() == t.SizeBytes
}

// buildImported needs the lock of the template called name.
func (s *Store) buildImported(ctx context.Context, i *oci.Image, name, id string, progress Progress) (_ Template, err error) {
	// The tree and its image are at least as large as the layers.
	if err := s.requireSpace(uint64(2*i.Size()) + importReserve); err != nil {
		return Template{}, err
	}
	parent := filepath.Join(s.dir, "templates", name)
	if err := mkdir(parent); err != nil {
		return Template{}, s.noSpace(err)
	}
	work, err := s.buildDir("template-" + name)
	if err != nil {
		return Template{}, s.noSpace(err)
	}
	defer func() { err = s.noSpace(errors.Join(err, os.RemoveAll(work))) }()
	root, ready := filepath.Join(work, "root"), filepath.Join(work, "ready")
	for _, dir := range []string{root, ready} {
		if err := mkdir(dir); err != nil {
			return Template{}, err
		}
	}
	job := oci.Job{Scratch: work, Root: root, Room: s.importRoom, Progress: func(stage string, done, total int64) {
		progress(Event{Stage: stage, Done: done, Total: total})
	}}
	if err := i.Unpack(ctx, job); err != nil {
		return Template{}, err
	}
	if err := furnish(root); err != nil {
		return Template{}, fmt.Errorf("prepare the tree of %s: %w", name, err)
	}
	progress.report("pack", "writing the root image")
	if err := s.packErofs(ctx, root, filepath.Join(ready, "root.erofs"), suiteEpoch, id, importReserve, progress); err != nil {
		return Template{}, err
	}
	t := Template{
		Name: name, RecipeDigest: id, Builder: builderVersion, CreatedAt: time.Now().UTC(),
		Imported: &Imported{Reference: i.Reference, Digest: i.Digest, Settings: i.Settings},
	}
	if t.Digest, t.SizeBytes, err = filesum.SHA256(filepath.Join(ready, "root.erofs")); err != nil {
		return Template{}, err
	}
	if err := writeJSON(filepath.Join(ready, "template.json"), t); err != nil {
		return Template{}, err
	}
	progress.report("publish", "template "+name)
	if err := s.Use(t); err != nil {
		return Template{}, err
	}
	if err := publish(ready, parent, t.Digest); err != nil {
		return Template{}, err
	}
	return s.Template(name)
}

// furnish makes the directories and files that the guest's agent and the runtimes need
// in any image, also one without a shell, and removes the content of directories that
// they cover. It follows no link of the image.
func furnish(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, d := range []struct {
		name  string
		mode  os.FileMode
		empty bool
	}{
		{"dev", 0o755, true}, {"proc", 0o555, true}, {"sys", 0o555, true}, {"run", 0o755, false}, {"etc", 0o755, false},
		{"tmp", 0o777 | os.ModeSticky, false},
	} {
		st, err := root.Lstat(d.name)
		if err == nil && st.IsDir() && !d.empty {
			continue
		}
		if err == nil {
			err = root.RemoveAll(d.name)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := errors.Join(root.Mkdir(d.name, 0o755), root.Chmod(d.name, d.mode)); err != nil {
			return err
		}
	}
	// The guest agent gives each sandbox its own of these.
	for _, name := range []string{"etc/resolv.conf", "etc/machine-id", "etc/hostname"} {
		if err := root.RemoveAll(name); err != nil {
			return err
		}
	}
	if _, err := root.Lstat("etc/hosts"); errors.Is(err, os.ErrNotExist) {
		if err := root.WriteFile("etc/hosts", []byte("127.0.0.1\tlocalhost\n::1\tlocalhost\n"), 0o644); err != nil {
			return err
		}
	}
	return errors.Join(
		root.WriteFile("etc/machine-id", nil, 0o644),
		root.WriteFile("etc/resolv.conf", nil, 0o644),
		root.Chmod("etc/machine-id", 0o644), root.Chmod("etc/resolv.conf", 0o644))
}

// Use records that an imported image is used now. It does nothing for other templates. The
// error is of kind NotFound if the image has been removed meanwhile.
func (s *Store) Use(t Template) error {
	if !strings.HasPrefix(t.Name, ImportedPrefix) {
		return nil
	}
	path := filepath.Join(s.dir, "templates", t.Name, "used")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|unix.O_NOFOLLOW, 0o600)
	if errors.Is(err, os.ErrNotExist) {
		return fault.Wrap(err, fault.NotFound, "template_not_found", "there is no template %q on this machine%s", t.Name, hint(t.Name))
	}
	if err != nil {
		return err
	}
	now := time.Now()
	return errors.Join(f.Close(), os.Chtimes(path, now, now))
}

// Unused returns the imported images that nobody has used for age. The remains of an
// import or a removal that was cut off are one that has only a name. Unused leaves out images
// that cannot be read: sandboxes may be based on them.
func (s *Store) Unused(age time.Duration) ([]Template, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, "templates"))
	if err != nil {
		return nil, err
	}
	var out []Template
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ImportedPrefix) || checkName(e.Name()) != nil {
			continue
		}
		_, err := current(filepath.Join(s.dir, "templates", e.Name()))
		remains := errors.Is(err, os.ErrNotExist)
		var t Template
		if remains {
			st, err := e.Info()
			if err != nil {
				continue // it is being removed
			}
			t = Template{Name: e.Name(), Imported: new(Imported), CreatedAt: st.ModTime()}
		} else if t, err = s.Template(e.Name()); err != nil {
			if !fault.Is(err, fault.NotFound) {
				s.warnDamaged(e.Name(), err)
			}
			continue
		}
		if t.Imported != nil && time.Since(s.usedAt(t)) > age {
			out = append(out, t)
		}
	}
	return out, nil
}

// usedAt returns the time of the last use of an imported image.
func (s *Store) usedAt(t Template) time.Time {
	st, err := os.Stat(filepath.Join(s.dir, "templates", t.Name, "used"))
	if err != nil {
		return t.CreatedAt
	}
	return st.ModTime()
}

// Remove removes an imported image that nobody has used for age, and reports false if it
// was used meanwhile or is being made. The caller has found that nothing refers to it.
func (s *Store) Remove(ctx context.Context, t Template, age time.Duration) (bool, error) {
	if t.Imported == nil || !strings.HasPrefix(t.Name, ImportedPrefix) || checkName(t.Name) != nil {
		return false, fault.New(fault.Internal, "not_imported", "the template %q is no imported image", t.Name)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*lockRetry)
	defer cancel()
	release, err := s.lock(ctx, "template-"+t.Name, Quiet)
	if errors.Is(err, context.DeadlineExceeded) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer release()
	if time.Since(s.usedAt(t)) <= age {
		return false, nil
	}
	// Without "current" it is no template any more, also if the rest stays after a crash.
	parent := filepath.Join(s.dir, "templates", t.Name)
	if err := os.Remove(filepath.Join(parent, "current")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, err
	}
	return true, os.RemoveAll(parent)
}
