package sandbox

import "strings"

// ImportedTemplatePrefix begins the names of the templates that hosts make of container
// images. They are internal: a user names the template that was built from one.
const ImportedTemplatePrefix = "oci-"

// PublicTemplates returns the names that users are shown, in their order.
func PublicTemplates(names []string) []string {
	out := make([]string, 0, len(names))
	for _, name := range names {
		if !strings.HasPrefix(name, ImportedTemplatePrefix) {
			out = append(out, name)
		}
	}
	return out
}
