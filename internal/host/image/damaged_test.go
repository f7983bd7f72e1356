package image

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// putTemplate makes the current version of a template whose image has no content.
func putTemplate(s *Store, name, digest string) (version string, err error) {
	version = filepath.Join(s.dir, "templates", name, digest)
	made := Template{Name: name, Digest: digest, CreatedAt: time.Now().Add(-time.Hour)}
	if strings.HasPrefix(name, ImportedPrefix) {
		made.Imported = new(Imported)
	}
	return version, errors.Join(
		os.MkdirAll(version, 0o755), writeJSON(filepath.Join(version, "template.json"), made),
		os.Symlink(digest, filepath.Join(filepath.Dir(version), "current")))
}

// TestDamagedTemplatesHideNone: templates that cannot be read are missing from every list,
// and the others are there. No list of unused images has one that a sandbox may need.
func TestDamagedTemplatesHideNone(t *testing.T) {
	s := openStore(t)
	digest := strings.Repeat("a", 64)
	for _, name := range []string{"whole", ImportedPrefix + "whole"} {
		if _, err := putTemplate(s, name, digest); err != nil {
			t.Fatal(err)
		}
	}
	for name, damage := range map[string]func(version string) error{
		"noversion": os.RemoveAll,
		"nojson":    func(v string) error { return os.Remove(filepath.Join(v, "template.json")) },
		"badjson":   func(v string) error { return os.WriteFile(filepath.Join(v, "template.json"), []byte("{"), 0o600) },
		"badlink": func(v string) error {
			link := filepath.Join(filepath.Dir(v), "current")
			return errors.Join(os.Remove(link), os.Symlink("elsewhere", link))
		},
		"nolink": func(v string) error {
			link := filepath.Join(filepath.Dir(v), "current")
			return errors.Join(os.Remove(link), os.WriteFile(link, nil, 0o600))
		},
	} {
		for _, name := range []string{name, ImportedPrefix + name} {
			version, err := putTemplate(s, name, digest)
			if err := errors.Join(err, damage(version)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Mkdir(filepath.Join(s.dir, "templates", ImportedPrefix+"remains"), 0o755); err != nil {
		t.Fatal(err)
	}
	names := func(all []Template, err error) []string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, one := range all {
			out = append(out, one.Name)
		}
		return out
	}
	if got, want := names(s.Templates()), []string{ImportedPrefix + "whole", "whole"}; !slices.Equal(got, want) {
		t.Errorf("templates: got %q, want %q", got, want)
	}
	if got, want := names(s.Unused(0)), []string{ImportedPrefix + "remains", ImportedPrefix + "whole"}; !slices.Equal(got, want) {
		t.Errorf("unused images: got %q, want %q", got, want)
	}
	for _, name := range []string{"nojson", "badjson"} {
		if got := names(s.Versions(name)); len(got) != 0 {
			t.Errorf("versions of %s: got %q, want none", name, got)
		}
	}
	for name, missing := range map[string]bool{"noversion": true, "nojson": true, "badjson": false} {
		if _, err := s.Template(name); err == nil || fault.Is(err, fault.NotFound) != missing {
			t.Errorf("template %s: got %v, want an error that is not_found: %t", name, err, missing)
		}
	}
}

// TestTemplatesDuringRemovals: a list that is made while images come and go has all others.
func TestTemplatesDuringRemovals(t *testing.T) {
	s := openStore(t)
	digest := strings.Repeat("b", 64)
	if _, err := putTemplate(s, "whole", digest); err != nil {
		t.Fatal(err)
	}
	name := ImportedPrefix + "brief"
	removed := make(chan struct{})
	go func() {
		defer close(removed)
		for range 300 {
			_, err := putTemplate(s, name, digest)
			image, readErr := s.Template(name)
			if err := errors.Join(err, readErr); err != nil {
				t.Error(err)
				return
			}
			if ok, err := s.Remove(context.Background(), image, 0); err != nil || !ok {
				t.Errorf("remove: got %t, %v", ok, err)
				return
			}
			if err := s.Use(image); !fault.Is(err, fault.NotFound) {
				t.Errorf("use of a removed image: got %v, want not_found", err)
				return
			}
		}
	}()
	for {
		all, err := s.Templates()
		if err != nil || !slices.ContainsFunc(all, func(one Template) bool { return one.Name == "whole" }) {
			t.Fatalf("templates: got %v, %v, want the whole one", all, err)
		}
		if _, err := s.Unused(0); err != nil {
			t.Fatalf("unused images: %v", err)
		}
		select {
		case <-removed:
			return
		default:
		}
	}
}
