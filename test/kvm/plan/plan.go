// Package plan holds the messages between the program outside the machine and
// the first process inside: the programs to run, and their result.
//
// test/kvm writes the plan into the machine's root image and reads the
// result from its console; test/kvm/inside does the opposite.
package plan

// Path is the plan's place in the root image.
const Path = "/kvm/plan.json"

// Result begins the last line on the console. The number after it is 0 if every
// step passed, and otherwise the number of the failed step, from 1.
const Result = "wrenn-kvm: result "

// Step is one program to run. It fails if its exit code is not 0 or its output
// lacks Must. The first failed step ends the run.
type Step struct {
	Name string   `json:"name"`
	Args []string `json:"args"` // the program's path first
	Env  []string `json:"env"`
	// Must is a text of the output, because an empty suite succeeds too.
	Must string `json:"must"`
}
