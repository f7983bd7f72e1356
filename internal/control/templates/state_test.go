package templates

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/build/plan"
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

// TestRepeatedVariables sets a variable many times in one step: only its last value is kept.
func TestRepeatedVariables(t *testing.T) {
	long := strings.Repeat("x", 20<<10)
	st := state{env: []plan.Variable{{Name: "A", Value: long}, {Name: "X"}}}
	many := slices.Repeat([]plan.Variable{{Name: "X", Value: "$A"}}, plan.MaxVariables)
	many = append(many, plan.Variable{Name: "Y", Value: "1"}, plan.Variable{Name: "X", Value: "$Y/2"})
	for name, env := range map[string]plan.Env{"E2B": {Expand: true, Set: many}, "Dockerfile": {Set: append(slices.Repeat([]plan.Variable{{Name: "X", Value: "3"}}, 9),
		plan.Variable{Name: "Y", Value: "1"}, plan.Variable{Name: "X", Value: "1/2"})}} {
		out, err := st.expand(plan.Step{Env: &env})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if want := []plan.Variable{{Name: "X", Value: "1/2"}, {Name: "Y", Value: "1"}}; !slices.Equal(out.Env.Set, want) {
			t.Errorf("%s: the step has %d variables, want X=1/2 and Y=1", name, len(out.Env.Set))
		}
		if got := st.after(out).env; len(got) != 3 || get(got, "X") != "1/2" || get(got, "Y") != "1" || len(st.env) != 2 || st.env[1].Value != "" {
			t.Errorf("%s: the state after it has %d variables, want A, X and Y; the state before must not change", name, len(got))
		}
	}
}

// TestStepsAreBoundedTogether plans steps that are too large after their expansion, in one
// stage and in two.
func TestStepsAreBoundedTogether(t *testing.T) {
	step := plan.Step{ID: "1", Env: &plan.Env{Expand: true, Set: []plan.Variable{{Name: "B", Value: "$A$A$A"}}}}
	n := maxPlanned/(30<<10) + 1
	for name, counts := range map[string][]int{"one stage": {n}, "two stages": {n/2 + 1, n/2 + 1}} {
		b := &builder{}
		var err error
		for i, count := range counts {
			s := &stage{builder: b, number: i + 1, steps: slices.Repeat([]plan.Step{step}, count)}
			s.base.state.env = []plan.Variable{{Name: "A", Value: strings.Repeat("x", 10<<10)}}
			if err = s.plan(context.Background()); err != nil {
				break
			}
		}
		if err == nil || !strings.Contains(err.Error(), "bytes after the expansion") {
			t.Errorf("%s: %v, want the bound of all steps", name, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := (&stage{builder: &builder{}, steps: []plan.Step{step}}).plan(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of the context: %v, want canceled", err)
	}
}
