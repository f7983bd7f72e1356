package templates

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/build/plan"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// maxPlan bounds a plan as JSON, in bytes.
const maxPlan = 8 << 20

// checkPlan checks the bounds of a plan and the order of its stages. The error is Invalid
// invalid_plan.
func checkPlan(p plan.Plan) error {
	bad := func(format string, args ...any) error {
		return fault.New(fault.Invalid, "invalid_plan", "the build cannot be carried out: %s", fmt.Sprintf(format, args...))
	}
	if len(p.Stages) == 0 || len(p.Stages) > plan.MaxStages {
		return bad("it needs 1 to %d stages", plan.MaxStages)
	}
	if len(p.Start) > plan.MaxText || len(p.Ready) > plan.MaxText || strings.ContainsRune(p.Start+p.Ready, 0) {
		return bad("the start or ready command is too long or contains a NUL character")
	}
	if text := strings.Join(p.Arguments, ""); len(text) > plan.MaxText || len(p.Arguments) > plan.MaxSources || strings.ContainsRune(text, 0) {
		return bad("the arguments of the start command are too long or contain a NUL character")
	}
	steps, size := 0, 0
	envs := make([]knownEnv, len(p.Stages))
	for i, s := range p.Stages {
		if err := checkBase(s.From, i); err != nil {
			return bad("stage %d: %s", i+1, err)
		}
		envs[i] = newKnownEnv()
		if s.From.Stage > 0 {
			envs[i] = envs[s.From.Stage-1].clone()
		}
		steps += len(s.Steps)
		for _, step := range s.Steps {
			n, err := checkStep(step, i)
			if err == nil {
				err = envs[i].add(step)
			}
			if err != nil {
				return bad("step %.64s: %s", step.ID, err)
			}
			if size += n; size > maxPlan {
				return bad("it is larger than %d bytes", maxPlan)
			}
		}
	}
	if steps > plan.MaxSteps {
		return bad("it has more than %d steps", plan.MaxSteps)
	}
	if text, err := json.Marshal(p); err != nil || len(text) > maxPlan {
		return bad("it is larger than %d bytes", maxPlan)
	}
	return nil
}

// checkBase checks the base of the stage at position i.
func checkBase(b plan.Base, i int) error {
	set := 0
	for _, given := range []bool{b.Image != "", b.Archive != "", b.Template != "", b.Stage != 0, b.Scratch} {
		if given {
			set++
		}
	}
	switch {
	case set != 1:
		return fmt.Errorf("it needs exactly one base")
	case b.Stage < 0 || b.Stage > i:
		return fmt.Errorf("its base is no earlier stage")
	case len(b.Image)+len(b.Archive)+len(b.Template) > 1024 || strings.ContainsRune(b.Image+b.Archive+b.Template, 0):
		return fmt.Errorf("the name of its base is too long")
	}
	return nil
}

// checkStep checks a step of the stage at position i, and returns its size as JSON.
func checkStep(s plan.Step, i int) (int, error) {
	set := 0
	for _, given := range []bool{s.Run != nil, s.Copy != nil, s.Env != nil, s.Workdir != nil, s.User != nil} {
		if given {
			set++
		}
	}
	text, err := json.Marshal(s)
	switch {
	case set != 1 || err != nil:
		return 0, fmt.Errorf("it needs exactly one instruction")
	case len(text) > 8*plan.MaxText:
		return 0, fmt.Errorf("it is too long")
	case strings.Contains(string(text), `\u0000`):
		return 0, fmt.Errorf("it contains a NUL character")
	case s.Env != nil && len(s.Env.Set) > plan.MaxVariables:
		return 0, fmt.Errorf("it sets more than %d variables", plan.MaxVariables)
	case s.Copy != nil:
		return len(text), checkCopy(*s.Copy, i)
	case s.Run != nil:
		return len(text), checkRun(*s.Run, i)
	}
	return len(text), nil
}

// maxBinds is the most files and directories that a RUN mounts.
const maxBinds = 20

// checkCopy checks the sources of a COPY.
func checkCopy(c plan.Copy, i int) error {
	from := 0
	for _, given := range []bool{c.Context != "", c.Stage != 0, c.Base != nil} {
		if given {
			from++
		}
	}
	switch {
	case from > 1 || (from == 0 && len(c.Sources) > 0) || len(c.Sources)+len(c.Content) == 0:
		return fmt.Errorf("it needs files from exactly one place")
	case len(c.Sources) > plan.MaxSources || len(c.Content) > plan.MaxSources || len(c.Exclude) > plan.MaxExcludes:
		return fmt.Errorf("it has more than %d sources, or leaves out more than %d patterns", plan.MaxSources, plan.MaxExcludes)
	case c.Stage < 0 || c.Stage > i:
		return fmt.Errorf("it copies from no earlier stage")
	case c.Base != nil && (c.Base.Stage != 0 || c.Base.Scratch):
		return fmt.Errorf("it copies from a base that is no image and no template")
	case c.Base != nil:
		return checkBase(*c.Base, 0)
	case c.Mode != nil && *c.Mode > 0o7777:
		return fmt.Errorf("its mode is no permission bits")
	}
	return nil
}

// checkRun checks a RUN of the stage at position i.
func checkRun(r plan.Run, i int) error {
	switch {
	case (len(r.Argv) == 0 || r.Argv[0] == "") && r.Script == "":
		return fmt.Errorf("it has no command")
	case r.Timeout < 0 || r.Timeout > plan.MaxStepTimeout:
		return fmt.Errorf("its timeout is longer than %s", plan.MaxStepTimeout)
	case len(r.Secrets) > maxSecrets || len(r.Scratch) > maxSecrets || len(r.Binds) > maxBinds:
		return fmt.Errorf("it has more than %d mounts", maxSecrets)
	}
	for _, c := range r.Binds {
		if len(c.Sources) != 1 || len(c.Content) > 0 || c.Unpack || c.Dest == "" {
			return fmt.Errorf("a mount needs one source and a target")
		}
		if err := checkCopy(c, i); err != nil {
			return err
		}
	}
	for _, s := range r.Secrets {
		if s.ID == "" || (s.Path == "" && s.Variable == "") || s.Mode > 0o777 {
			return fmt.Errorf("a secret needs an id, and a file or a variable")
		}
	}
	return nil
}
