package host

import (
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host/journal"
)

// TestStage: callers see a stage of few words, that of the build which the create waits for
// first.
func TestStage(t *testing.T) {
	var own, build stage
	for _, c := range []struct {
		step, want string
	}{
		{journal.StepTemplateRecord, "booting_template"},
		{journal.StepTemplateWarm, "booting_template"},
		{stepTemplateStart, "starting_template"},
		{journal.StepTemplateSeal, "saving_template"},
		{journal.StepTemplatePublish, "saving_template"},
		{journal.StepCreateDisk, "starting"},
		{journal.StepCreateAssign, "starting"},
	} {
		build.set(c.step)
		own.set(journal.StepCreateTemplate)
		own.follow(&build)
		if got := own.text(); got != c.want {
			t.Errorf("the build is at %s: %q, want %q", c.step, got, c.want)
		}
	}
	own.follow(nil)
	if got := own.text(); got != "starting" {
		t.Errorf("after the build: %q, want starting", got)
	}
	var none *stage
	none.set("x")
	none.follow(&own)
	if got := none.text() + new(stage).text(); got != "" {
		t.Errorf("without a step: %q", got)
	}
}
