package sandbox_test

import (
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

func TestParseTemplateRef(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]sandbox.TemplateRef{
		"web":          {Name: "web", Tag: "default"},
		"web:v1.2_a-b": {Name: "web", Tag: "v1.2_a-b", Tagged: true},
		"web:default":  {Name: "web", Tag: "default", Tagged: true},
		"team/web:v1":  {Name: "web", Tag: "v1", Tagged: true},
		"web:01234567-89ab-cdef-0123-456789abcdef": {Name: "web", Tag: "01234567-89ab-cdef-0123-456789abcdef", Tagged: true},
	} {
		if got, err := sandbox.ParseTemplateRef(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", ":", "web:", ":v1", "Web", "web:V1", "web:a:b", "web:.a", "team/", "web:" + strings.Repeat("a", 129), strings.Repeat("a", 64), "a..b", "web\n", "../web", "a/b/web", "/web",
	} {
		if got, err := sandbox.ParseTemplateRef(text); fault.ReasonOf(err) != "invalid_template" {
			t.Errorf("%q: %+v, %v, want invalid_template", text, got, err)
		}
	}
}

// TestGuestDefaults checks the user and the directory of commands.
func TestGuestDefaults(t *testing.T) {
	t.Parallel()
	valid := sandbox.Spec{}.WithDefaults()
	for _, c := range []struct {
		user, dir, reason string
	}{
		{"", "", ""},
		{"app", "/srv/app dir", ""},
		{"1000:1000", "/", ""},
		{"a\nb", "", "invalid_user"},
		{"a\x00", "", "invalid_user"},
		{"\xff", "", "invalid_user"},
		{strings.Repeat("a", sandbox.MaxUserLen+1), "", "invalid_user"},
		{"", "srv", "invalid_path"},
		{"", "/srv\n", "invalid_path"},
		{"", "/srv\x00", "invalid_path"},
		{"", "/" + strings.Repeat("a", sandbox.MaxPathLen), "invalid_path"},
	} {
		spec := valid
		spec.User, spec.Workdir = c.user, c.dir
		if got := fault.ReasonOf(spec.Validate()); got != c.reason {
			t.Errorf("user %q, directory %q: %q, want %q", c.user, c.dir, got, c.reason)
		}
	}
}
