package image

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"regexp"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// builderVersion is part of every recipe's digest. It changes when the way
// of building changes the result. Images for gVisor are made since builderForGVisor.
const (
	builderVersion   = 2
	builderForGVisor = 2
)

// Recipe says how a template is made. It does not say which version of a
// package: that is decided when it is built, and recorded with the result.
type Recipe struct {
	Name string `json:"name"`
	// Suite is a Debian release.
	Suite string `json:"suite"`
	// Packages are installed on top of the essential ones and apt.
	Packages []string `json:"packages"`
	// Commands run as root in the finished tree, each by /bin/sh, without
	// network of their own. The operator writes them; they are trusted.
	Commands []string `json:"commands"`
	// Exclude lists patterns of paths that packages do not install, as dpkg's option
	// --path-exclude takes them.
	Exclude []string `json:"exclude,omitempty"`
	// Files are written into the tree after the commands.
	Files []File `json:"files,omitempty"`
	// Start is run when the template's snapshot is made.
	Start Start `json:"start,omitzero"`
	// Space is the free space that a build needs, in bytes: the tree, and either its image
	// or the files of its packages. 0 is templateSpace. It is no part of the digest.
	Space uint64 `json:"-"`
}

// Digest identifies the recipe and the way of building it.
func (r Recipe) Digest() string {
	b, err := json.Marshal(struct {
		Builder int
		Recipe  Recipe
	}{builderVersion, r})
	if err != nil {
		panic(err) // strings and numbers always encode
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

var (
	templateName = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$`)
	suiteName    = regexp.MustCompile(`^[a-z]{1,32}$`)
	// packageName is Debian policy 5.6.7 with an optional "=version".
	packageName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]{1,99}(=[A-Za-z0-9.+~:-]{1,99})?$`)
)

// checkName refuses a name that cannot be a plain directory name of its own.
func checkName(name string) error {
	if !templateName.MatchString(name) || strings.Contains(name, "..") {
		return fault.New(fault.Invalid, "invalid_template",
			"a template's name has lower-case letters, digits, '.', '_' and '-', and at most 63 characters")
	}
	return nil
}

func (r Recipe) validate() error {
	if err := checkName(r.Name); err != nil {
		return err
	}
	for _, f := range r.Files {
		if !f.valid() {
			return fault.New(fault.Invalid, "invalid_recipe", "recipe %s: %q with mode %o is not a file's path and mode", r.Name, f.Path, f.Mode)
		}
	}
	if err := r.Start.validate(); err != nil {
		return err
	}
	if !suiteName.MatchString(r.Suite) {
		return fault.New(fault.Invalid, "invalid_recipe", "recipe %s: %q is not a Debian release", r.Name, r.Suite)
	}
	for _, p := range r.Packages {
		if !packageName.MatchString(p) {
			return fault.New(fault.Invalid, "invalid_recipe", "recipe %s: %q is not a package name", r.Name, p)
		}
	}
	return nil
}
