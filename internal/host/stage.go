package host

import (
	"strings"
	"sync/atomic"

	"github.com/wrenn-dev/wrenn/internal/host/journal"
)

// stage is the part of a create that takes long and is under way, for those who wait. It is
// safe for concurrent use, and a nil stage notes nothing.
type stage struct {
	name atomic.Pointer[string]
	of   atomic.Pointer[stage] // the build of the template that the create waits for
}

// stepTemplateStart is the name of the part of template.warm in which the start command of
// a template runs. It is not journaled.
const stepTemplateStart = "template.start"

// set notes the step that begins.
func (s *stage) set(step string) {
	if s != nil {
		s.name.Store(&step)
	}
}

// follow notes that the create waits for another operation; nil ends that.
func (s *stage) follow(other *stage) {
	if s != nil {
		s.of.Store(other)
	}
}

// text returns the stage in the words of host.v1, or "".
func (s *stage) text() string {
	if s == nil {
		return ""
	}
	if other := s.of.Load(); other != nil {
		return other.text()
	}
	name := s.name.Load()
	if name == nil {
		return ""
	}
	switch *name {
	case stepTemplateStart:
		return "starting_template"
	case journal.StepTemplateSeal, journal.StepTemplateSave, journal.StepTemplatePublish:
		return "saving_template"
	}
	if strings.HasPrefix(*name, "template.") {
		return "booting_template"
	}
	return "starting"
}
