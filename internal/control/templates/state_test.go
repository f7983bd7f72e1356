package templates

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/control/templates/plan"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// TestStepsAreBounded expands steps whose values depend on the base.
func TestStepsAreBounded(t *testing.T) {
	long := strings.Repeat("x", 60<<10)
	st := state{env: []plan.Variable{{Name: "A", Value: long}}, workdir: "/" + strings.Repeat("d/", 2000)}
	many := strings.Repeat("$A", 1000)
	deferred := &plan.Deferred{Escape: "\\"}
	names := &plan.Env{}
	for i := range plan.MaxVariables {
		names.Set = append(names.Set, plan.Variable{Name: fmt.Sprint("V", i)})
	}
	sum := &plan.Env{Expand: true}
	for i := range 20 {
		sum.Set = append(sum.Set, plan.Variable{Name: fmt.Sprint("V", i), Value: "$A"})
	}
	for name, step := range map[string]plan.Step{
		"ENV of E2B":         {Env: &plan.Env{Expand: true, Set: []plan.Variable{{Name: "B", Value: many}}}},
		"ENV":                {Deferred: deferred, Env: &plan.Env{Set: []plan.Variable{{Name: "B", Value: many}}}},
		"name of a variable": {Deferred: deferred, Env: &plan.Env{Set: []plan.Variable{{Name: many}}}},
		"variables":          {Env: names},
		"sum":                {Env: sum},
		"COPY":               {Deferred: deferred, Copy: &plan.Copy{Sources: []string{"a"}, Dest: many}},
		"here-document":      {Deferred: deferred, Copy: &plan.Copy{Content: []plan.Inline{{Name: "a", Data: many, Expand: true}}}},
		"USER":               {Deferred: deferred, User: &plan.User{Name: many}},
		"WORKDIR":            {Deferred: deferred, Workdir: &plan.Workdir{Path: many}},
		"long WORKDIR":       {Workdir: &plan.Workdir{Path: strings.Repeat("e", 200)}},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := st.expand(step)
			runtime.ReadMemStats(&after)
			if !fault.Is(err, fault.Invalid) {
				t.Errorf("expand: %v, want an error of the kind Invalid", err)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > 20<<20 {
				t.Errorf("expand allocated %d MB, want at most 20", n>>20)
			}
		})
	}
	out, err := st.expand(plan.Step{Env: &plan.Env{Expand: true, Set: []plan.Variable{{Name: "B", Value: "1"}, {Name: "C", Value: "$B/2"}}}})
	if err != nil || len(out.Env.Set) != 2 || out.Env.Set[1].Value != "1/2" {
		t.Errorf("a short ENV: got %+v, %v, want C to be 1/2", out.Env, err)
	}
}

// TestLargePlans checks a plan whose steps are too large together.
func TestLargePlans(t *testing.T) {
	run := plan.Step{Run: &plan.Run{Argv: []string{"x", strings.Repeat("x", 60<<10)}}}
	p := plan.Plan{Stages: []plan.Stage{{From: plan.Base{Scratch: true}}}}
	for range 200 {
		p.Stages[0].Steps = append(p.Stages[0].Steps, run)
	}
	if err := checkPlan(p); fault.ReasonOf(err) != "invalid_plan" {
		t.Errorf("a plan of 12 MB: %v, want invalid_plan", err)
	}
	env := &plan.Env{}
	for i := range plan.MaxVariables + 1 {
		env.Set = append(env.Set, plan.Variable{Name: fmt.Sprint("V", i)})
	}
	p.Stages[0].Steps = []plan.Step{{Env: env}}
	if err := checkPlan(p); fault.ReasonOf(err) != "invalid_plan" {
		t.Errorf("a plan with many variables: %v, want invalid_plan", err)
	}
}
