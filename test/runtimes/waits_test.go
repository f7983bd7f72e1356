package runtimes

import (
	"fmt"
	"strings"

	"github.com/wrenn-dev/wrenn/test/runtimes/waits"
)

// The situations in which calls of package waits are looked at.
const (
	resumed  = "after a resume: "
	inParent = "in the parent of a fork: "
	inChild  = "in a child: "
)

// add adds the results of calls in a situation.
func (f findings) add(situation string, results findings) {
	for name, result := range results {
		f[situation+name] = result
	}
}

// waitTable formats the results of the calls.
func waitTable(microVM, gvisor findings) string {
	var b strings.Builder
	b.WriteString("\n| system call | microvm | gvisor |\n|---|---|---|\n")
	for _, w := range waits.All() {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", w.Name, waitResult(microVM, w.Name), waitResult(gvisor, w.Name))
	}
	b.WriteString("\n")
	return b.String()
}

// waitResult is the result of a call, or one for each situation if they differ.
func waitResult(found findings, name string) string {
	same := found[resumed+name]
	if found[inParent+name] == same && found[inChild+name] == same {
		return same
	}
	var all []string
	for _, situation := range []string{resumed, inParent, inChild} {
		all = append(all, situation+found[situation+name])
	}
	return strings.Join(all, "; ")
}
