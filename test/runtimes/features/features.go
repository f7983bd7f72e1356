// Package features has the probes of package runtimes: each tries one thing that
// programs ask of a Linux kernel, and tells whether it worked.
//
// The program in ../probe runs them in a sandbox, each in a process of its own, as
// root. A probe does not look for a feature: it uses it, and checks the result.
package features

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Feature is one row of the table.
type Feature struct {
	// Name is the title of the row, and the name by which the program runs it.
	Name string
	// About describes the probe.
	About string
	// Try uses the feature.
	Try func() error
}

// Group is a part of the table.
type Group struct {
	Name     string
	Features []Feature
}

// Groups returns all features, in the order of the table.
func Groups() []Group {
	return []Group{
		{"Containers in a sandbox", append(containers(), limits()...)},
		{"Networks and firewalls", networks()},
		{"Sockets", sockets()},
		{"Mounts", mounts()},
		{"Files", append(fileContents(), fileRights()...)},
		{"Processes and debuggers", append(processes(), debuggers()...)},
		{"Communication between processes", ipc()},
		{"The kernel and its settings", kernel()},
	}
}

// Find returns the feature called name.
func Find(name string) (Feature, bool) {
	for _, g := range Groups() {
		if i := slices.IndexFunc(g.Features, func(f Feature) bool { return f.Name == name }); i >= 0 {
			return g.Features[i], true
		}
	}
	return Feature{}, false
}

// Describe returns the word of the table for the result of a probe: yes, the name of
// the error number, or the error's text.
func Describe(err error) string {
	var number syscall.Errno
	switch {
	case err == nil:
		return "yes"
	case errors.As(err, &number) && unix.ErrnoName(number) != "":
		return "no: " + unix.ErrnoName(number)
	default:
		return "no: " + err.Error()
	}
}

// steps are the second halves of probes, which run in another process.
var steps map[string]func() error

func init() {
	steps = map[string]func() error{
		"user-namespace": newUserNamespace, "is-root": isRoot, "first-process": firstProcess, "lone-network": loneNetwork,
		"pivot": pivot, "named": named, "own-groups": ownGroups, "eat": eat, "capable": capable, "sleep": sleepLong,
		"veth": vethBetween, "spin": spin,
	}
}

// Step runs the second half of a probe.
func Step(name string) error {
	step, ok := steps[name]
	if !ok {
		return fmt.Errorf("no step is called %s", name)
	}
	return step()
}

// command returns a command that runs a step in a process with the given attributes.
func command(step string, attr *syscall.SysProcAttr) *exec.Cmd {
	return commandOf("/proc/self/exe", step, attr)
}

func commandOf(program, step string, attr *syscall.SysProcAttr) *exec.Cmd {
	cmd := exec.Command(program, "step", step)
	cmd.SysProcAttr = attr
	return cmd
}

// inChild runs a step in a process with the given attributes. It returns the error
// that the step had there.
func inChild(step string, attr *syscall.SysProcAttr) error { return result(command(step, attr)) }

func result(cmd *exec.Cmd) error {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if said := strings.TrimSpace(out.String()); err != nil && said != "" {
		return reported(said)
	}
	return err
}

// reported turns the word that a process has printed into its error.
func reported(said string) error {
	said = strings.TrimPrefix(said, "no: ")
	for n := syscall.Errno(1); n < 150; n++ {
		if unix.ErrnoName(n) == said {
			return n
		}
	}
	return errors.New(said)
}

// nobody is the ordinary user of the probes.
const nobody = 65534

func asNobody() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
}

// inDir calls do with a new directory on the sandbox's disk.
func inDir(do func(dir string) error) error {
	dir, err := os.MkdirTemp("/var/tmp", "probe")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	return do(dir)
}

// want returns an error unless a probe got the expected result.
func want(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}
