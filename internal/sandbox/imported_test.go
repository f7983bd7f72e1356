package sandbox

import (
	"slices"
	"testing"
)

func TestImportedTemplatesAreInternal(t *testing.T) {
	if got := PublicTemplates([]string{"minimal", "oci-0123", "ociw", "oci"}); !slices.Equal(got, []string{"minimal", "ociw", "oci"}) {
		t.Errorf("got %v, want all but the one that begins with oci-", got)
	}
}
