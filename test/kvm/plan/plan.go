// Package plan is what the machine outside and the first process inside tell
// each other: which programs to run, and how that ended.
//
// test/kvm writes the plan into the machine's root image and reads the
// verdict from its console; test/kvm/inside does the opposite.
package plan

// Path is the plan's place in the root image.
const Path = "/kvm/plan.json"

// Verdict begins the last line on the console. 0 follows when every step passed,
// and else the number of the one that failed, from 1.
const Verdict = "wrenn-kvm: verdict "

// Step is one program to run. The first that fails ends the run: it did not end
// with 0, or its output lacks what it must have.
type Step struct {
	Name string   `json:"name"`
	Args []string `json:"args"` // the program's path first
	Env  []string `json:"env"`
	// Must be in the output: a suite may also end well because it is empty.
	Must string `json:"must"`
}
