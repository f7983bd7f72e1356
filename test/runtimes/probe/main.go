// Command probe runs the probes of package features in a sandbox. It prints a line for
// each feature, with its name and the result.
//
//	probe                  every feature, each in a process of its own
//	probe feature NAME     one feature
//	probe step NAME        the second half of a probe, in another process
//	probe load FILE...     load kernel modules, in this order
//	probe hold ADDRESS     hold files, connections and timers until the end
//	probe report           print how the held things are
//	probe wait             make system calls that wait, until the next command
//	probe waited           end the waits, and print the result of each
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/test/runtimes/features"
)

func main() {
	err := run(os.Args[1:])
	if err != nil {
		fmt.Println(features.Describe(err))
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 0:
		return all()
	case len(args) == 2 && args[0] == "feature":
		f, ok := features.Find(args[1])
		if !ok {
			return fmt.Errorf("no feature is called %s", args[1])
		}
		return f.Try()
	case len(args) == 2 && args[0] == "step":
		return features.Step(args[1])
	case len(args) == 2 && args[0] == "hold":
		return hold(args[1])
	case len(args) == 1 && args[0] == "report":
		return ask(reportSocket)
	case len(args) == 1 && args[0] == "wait":
		return wait()
	case len(args) == 1 && args[0] == "waited":
		return ask(waitSocket)
	case args[0] == "load":
		return load(args[1:])
	default:
		return errors.New("usage: probe [feature NAME | step NAME | load FILE... | hold ADDRESS | report | wait | waited]")
	}
}

// patience bounds one probe. Most need some milliseconds, on a processor that is
// emulated some hundred.
const patience = 30 * time.Second

func all() error {
	for _, g := range features.Groups() {
		for _, f := range g.Features {
			fmt.Printf("%s\t%s\n", f.Name, try(f.Name))
		}
	}
	return nil
}

// try runs one probe in a process of its own, because probes change their process,
// and some can end it.
func try(name string) string {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "feature", name)
	cmd.WaitDelay = time.Second // a probe's own children may hold its output
	out, err := cmd.Output()
	said := strings.TrimSpace(string(out))
	switch {
	case ctx.Err() != nil:
		return "no: it hangs"
	case err == nil:
		return "yes"
	case strings.HasPrefix(said, "no: "):
		return said
	default:
		return "no: the process ended"
	}
}

func load(files []string) error {
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if err := unix.InitModule(data, ""); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
