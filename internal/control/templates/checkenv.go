package templates

import (
	"fmt"
	"maps"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/build/plan"
)

// knownEnv is the part of a stage's environment that follows from its steps alone. A base can
// only add variables to it.
type knownEnv struct {
	// values has the bytes of the value of each variable; 0 if the base decides it.
	values map[string]int
	// named and valued are the bytes of all names and of all values.
	named, valued int
}

// newKnownEnv returns the environment before the first step of a stage. A base without a PATH gets
// one.
func newKnownEnv() knownEnv {
	var k knownEnv
	k.set("PATH", 0)
	return k
}

// clone returns a copy.
func (k knownEnv) clone() knownEnv {
	k.values = maps.Clone(k.values)
	return k
}

// set changes the variable name to a value of n bytes.
func (k *knownEnv) set(name string, n int) {
	if k.values == nil {
		k.values = map[string]int{}
	}
	old, known := k.values[name]
	if !known {
		k.named += len(name)
	}
	k.values[name] = n
	k.valued += n - old
}

// forget makes all values unknown. Each of several calls in a row but the first costs nothing.
func (k *knownEnv) forget() {
	if k.valued == 0 {
		return
	}
	for name := range k.values {
		k.values[name] = 0
	}
	k.valued = 0
}

// add applies the variables of a step. The error says that no environment can hold them, with any
// base.
func (k *knownEnv) add(step plan.Step) error {
	if step.Env == nil {
		return nil
	}
	for _, v := range step.Env.Set {
		switch {
		case step.Deferred != nil && !plainName(v.Name):
			// It may be any variable, with a value that is shorter than the known one.
			k.forget()
		case v.Name == "" || strings.Contains(v.Name, "="):
			return fmt.Errorf("%.64q cannot be the name of a variable", v.Name)
		case step.Deferred != nil || step.Env.Expand && strings.ContainsAny(v.Value, `$\`):
			k.set(v.Name, 0)
		default:
			k.set(v.Name, len(v.Value))
		}
		if len(k.values) > plan.MaxVariables || k.named+k.valued > plan.MaxEnvironment {
			return fmt.Errorf("the environment has more than %d variables, PATH included, or more than %d bytes", plan.MaxVariables, plan.MaxEnvironment)
		}
	}
	return nil
}

// plainName reports whether the expansion of a word of a Dockerfile leaves name as it is.
func plainName(name string) bool {
	return name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789") == ""
}
