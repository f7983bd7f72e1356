package sandbox

import (
	"regexp"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// DefaultTag is the tag of a reference to a template without one.
const DefaultTag = "default"

// templateTag is the grammar of a tag.
var templateTag = regexp.MustCompile(`^[a-z0-9_][a-z0-9._-]{0,127}$`)

// ValidTag reports whether s can be a tag: lower-case letters, digits, '_', and after the
// first character '.' and '-'; at most 128 characters.
func ValidTag(s string) bool { return templateTag.MatchString(s) }

// TemplateRef names a build of a template: [namespace/]name[:tag]. The name may be the id
// of a template, and the tag the id of a build. The namespace is ignored, because an
// installation has one.
type TemplateRef struct {
	Name, Tag string
	// Tagged says that the tag was given. Otherwise it is DefaultTag.
	Tagged bool
}

// ParseTemplateRef reads a reference. The error is Invalid with the reason
// invalid_template.
func ParseTemplateRef(s string) (TemplateRef, error) {
	name, tag, given := strings.Cut(s, ":")
	namespace, rest, found := strings.Cut(name, "/")
	if found {
		name = rest
	}
	if !given {
		tag = DefaultTag
	}
	if found && !ValidTemplateName(namespace) || !ValidTemplateName(name) || !ValidTag(tag) {
		return TemplateRef{}, fault.New(fault.Invalid, "invalid_template",
			"a template must be a name, or NAME:TAG, of lower-case letters, digits, '.', '_' and '-'; the name has at most %d characters",
			MaxTemplateLen)
	}
	return TemplateRef{Name: name, Tag: tag, Tagged: given}, nil
}
