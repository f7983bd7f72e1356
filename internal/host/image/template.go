package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/linux/filesum"
)

// templateSpace is the free space that building a template needs, in bytes, if its
// recipe states no other.
const templateSpace = 1536 << 20

// Template is one version of a prepared root image.
type Template struct {
	Name string `json:"name"`
	// Digest is the SHA-256 of the image file.
	Digest string `json:"digest"`
	// RecipeDigest is that of the recipe it was built from.
	RecipeDigest string `json:"recipe_digest"`
	// Builder is the version of the way of building. It is 0 for 1.
	Builder   int       `json:"builder"`
	SizeBytes int64     `json:"size_bytes"`
	CreatedAt time.Time `json:"created_at"`
	// Start is run when the template's snapshot is made.
	Start Start `json:"start,omitzero"`
	// Imported describes the container image that it was made of; nil for a recipe's.
	Imported *Imported `json:"imported,omitempty"`
	// Path is the erofs image, which nobody may write to.
	Path string `json:"-"`
}

// ForGVisor reports whether gVisor's sentry can read the image.
func (t Template) ForGVisor() bool { return t.Builder >= builderForGVisor }

// Template returns the current version of a template. The error is of kind
// NotFound when there is none, or when another process has removed it meanwhile.
func (s *Store) Template(name string) (Template, error) {
	if err := checkName(name); err != nil {
		return Template{}, err
	}
	parent := filepath.Join(s.dir, "templates", name)
	digest, err := current(parent)
	var t Template
	if err == nil {
		t, err = readTemplate(filepath.Join(parent, digest))
	}
	if errors.Is(err, os.ErrNotExist) {
		return Template{}, fault.Wrap(err, fault.NotFound, "template_not_found",
			"there is no template %q on this machine%s", name, hint(name))
	}
	return t, err
}

// hint returns the end of a sentence about a missing template: the command that
// prepares a built-in one.
func hint(name string) string {
	if _, builtIn := BuiltIn(name); builtIn {
		return "; 'wrenn image build " + name + "' prepares it"
	}
	return "; built in are " + strings.Join(BuiltInNames(), ", ")
}

// Version returns the version of a template with that digest, also one that is not
// current. It is fault.NotFound if there is none.
func (s *Store) Version(digest string) (Template, error) {
	if validDigest(digest) {
		dirs, _ := filepath.Glob(filepath.Join(s.dir, "templates", "*", digest)) // fails for bad patterns alone
		for _, dir := range dirs {
			if t, err := readTemplate(dir); err == nil {
				return t, nil
			}
		}
	}
	return Template{}, fault.New(fault.NotFound, "template_not_found", "there is no template with the digest %q on this machine", digest)
}

// Templates returns the current version of every template, by name. It leaves out those that
// are removed meanwhile or cannot be read: one damaged template must not hide the others.
func (s *Store) Templates() ([]Template, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, "templates"))
	if err != nil {
		return nil, err
	}
	var all []Template
	for _, e := range entries {
		if checkName(e.Name()) != nil {
			continue // not ours
		}
		t, err := s.Template(e.Name())
		if fault.Is(err, fault.NotFound) {
			continue // its first build has not ended, or it is being removed
		}
		if err != nil {
			s.warnDamaged(e.Name(), err)
			continue
		}
		all = append(all, t)
	}
	return all, nil
}

// warnDamaged logs that a template cannot be read, once for each error.
func (s *Store) warnDamaged(name string, err error) {
	if last, known := s.damaged.Swap(name, err.Error()); known && last == err.Error() {
		return
	}
	s.log.Warn("a template cannot be read and is left out; build or import it again", "template", name, "error", err)
}

// Versions returns every version of a template, newest first, without those that Templates
// would leave out. It is empty for a template that never was.
func (s *Store) Versions(name string) ([]Template, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	dirs, err := filepath.Glob(filepath.Join(s.dir, "templates", name, strings.Repeat("[0-9a-f]", 64)))
	if err != nil {
		return nil, err
	}
	var all []Template
	for _, dir := range dirs {
		t, err := readTemplate(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			s.warnDamaged(name, err)
			continue
		}
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b Template) int { return b.CreatedAt.Compare(a.CreatedAt) })
	return all, nil
}

func readTemplate(dir string) (Template, error) {
	var t Template
	err := readJSON(filepath.Join(dir, "template.json"), &t)
	t.Path = filepath.Join(dir, "root.erofs")
	return t, err
}

// EnsureTemplate returns the current version of r's template after checking
// its content, and builds one if there is none, if it is damaged, or if it
// was made from another recipe. A build takes about a minute and needs
// Debian's archive.
func (s *Store) EnsureTemplate(ctx context.Context, r Recipe, progress Progress) (Template, error) {
	if err := r.validate(); err != nil {
		return Template{}, err
	}
	release, err := s.lock(ctx, "template-"+r.Name, progress)
	if err != nil {
		return Template{}, err
	}
	defer release()
	t, err := s.Template(r.Name)
	if err == nil && t.RecipeDigest == r.Digest() {
		progress.report("check", "template "+r.Name)
		if err = t.verify(); err == nil {
			return t, nil
		}
		s.log.Warn("the prepared template is damaged and is built again", "template", r.Name, "error", err)
	}
	return s.buildTemplate(ctx, r, progress)
}

// RefreshTemplate builds a new version of r's template from the packages that the archive
// has now and makes it the current one.
func (s *Store) RefreshTemplate(ctx context.Context, r Recipe, progress Progress) (Template, error) {
	if err := r.validate(); err != nil {
		return Template{}, err
	}
	release, err := s.lock(ctx, "template-"+r.Name, progress)
	if err != nil {
		return Template{}, err
	}
	defer release()
	return s.buildTemplate(ctx, r, progress)
}

func (t Template) verify() error {
	digest, size, err := filesum.SHA256(t.Path)
	if err != nil {
		return err
	}
	if digest != t.Digest || size != t.SizeBytes {
		return fmt.Errorf("template %s: content has digest %s, want %s", t.Name, digest, t.Digest)
	}
	return nil
}

// buildTemplate needs the lock of r's template.
func (s *Store) buildTemplate(ctx context.Context, r Recipe, progress Progress) (_ Template, err error) {
	if err := requireTools("mkfs.erofs"); err != nil {
		return Template{}, err
	}
	if err := s.requireSpace(cmp.Or(r.Space, templateSpace)); err != nil {
		return Template{}, err
	}
	parent := filepath.Join(s.dir, "templates", r.Name)
	if err := mkdir(parent); err != nil {
		return Template{}, s.noSpace(err)
	}
	work, err := s.buildDir("template-" + r.Name)
	if err != nil {
		return Template{}, s.noSpace(err)
	}
	defer func() { err = s.noSpace(errors.Join(err, os.RemoveAll(work))) }()
	ready := filepath.Join(work, "ready")
	if err := mkdir(ready); err != nil {
		return Template{}, err
	}
	if err := s.packTemplate(ctx, r, work, ready, progress); err != nil {
		return Template{}, err
	}
	t := Template{Name: r.Name, RecipeDigest: r.Digest(), Builder: builderVersion, CreatedAt: time.Now().UTC(), Start: r.Start}
	if t.Digest, t.SizeBytes, err = filesum.SHA256(filepath.Join(ready, "root.erofs")); err != nil {
		return Template{}, err
	}
	if err := writeJSON(filepath.Join(ready, "template.json"), t); err != nil {
		return Template{}, err
	}
	progress.report("publish", "template "+r.Name)
	if err := publish(ready, parent, t.Digest); err != nil {
		return Template{}, err
	}
	return s.Template(r.Name)
}
