package templates

import (
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/build/plan"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestEnvironmentOfAPlan: a plan is refused exactly if its environment is too large with every
// base.
func TestEnvironmentOfAPlan(t *testing.T) {
	if plan.MaxVariables != sandbox.MaxEnvEntries || plan.MaxEnvironment != sandbox.MaxEnvBytes {
		t.Errorf("an environment of a plan: %d variables and %d bytes, want those of a sandbox", plan.MaxVariables, plan.MaxEnvironment)
	}
	env := func(pairs ...string) plan.Step {
		e := &plan.Env{}
		for i := 0; i < len(pairs); i += 2 {
			e.Set = append(e.Set, plan.Variable{Name: pairs[i], Value: pairs[i+1]})
		}
		return plan.Step{ID: "1", Env: e}
	}
	expand := func(s plan.Step) plan.Step { s.Env.Expand = true; return s }
	deferred := func(s plan.Step) plan.Step { s.Deferred = &plan.Deferred{Escape: "\\"}; return s }
	half := strings.Repeat("x", plan.MaxEnvironment/2)
	rest := half[len("PATH")+len("A")+len("B"):]
	for name, c := range map[string]struct {
		steps []plan.Step
		bad   string
	}{
		"as much as there may be":    {[]plan.Step{env("A", half), env("B", rest)}, ""},
		"one byte more":              {[]plan.Step{env("A", half), env("B", rest+"x")}, "65536 bytes"},
		"one byte more in one step":  {[]plan.Step{env("A", half, "B", rest+"x", "A", "")}, "65536 bytes"},
		"a value that is replaced":   {[]plan.Step{env("A", half), env("A", ""), env("B", half)}, ""},
		"E2B, without a reference":   {[]plan.Step{env("A", half), expand(env("B", half))}, "65536 bytes"},
		"E2B, with a reference":      {[]plan.Step{env("A", half), expand(env("B", half+"$A"))}, ""},
		"a value of the base":        {[]plan.Step{env("A", half), deferred(env("B", half))}, ""},
		"a name of the base":         {[]plan.Step{env("A", half), deferred(env("$X", "")), env("B", half)}, ""},
		"no name":                    {[]plan.Step{env("", "x")}, `"" cannot be the name`},
		"a name with an equals sign": {[]plan.Step{expand(env("A=B", "x"))}, `"A=B" cannot be the name`},
	} {
		// The last stage has the environment of the first.
		p := plan.Plan{Stages: []plan.Stage{
			{From: plan.Base{Scratch: true}, Steps: c.steps[:1]}, {From: plan.Base{Image: "other"}}, {From: plan.Base{Stage: 1}, Steps: c.steps[1:]},
		}}
		err := checkPlan(p)
		switch {
		case c.bad == "" && err != nil:
			t.Errorf("%s: %v, want no error", name, err)
		case c.bad != "" && (fault.ReasonOf(err) != "invalid_plan" || !strings.Contains(fault.As(err).Public, c.bad)):
			t.Errorf("%s: %v, want invalid_plan with %s", name, err, c.bad)
		}
	}
}
