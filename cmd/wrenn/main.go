// Command wrenn holds the commands of operators and users: the servers (up, server,
// agent), the commands that maintain them (down, uninstall, doctor, image, key), and
// the commands that use sandboxes through the REST API (package cli).
//
// This package parses flags and environment variables and wires the other packages.
// It contains no logic of theirs.
package main

import (
	"context"
	"os"
	"os/exec"

	"github.com/wrenn-dev/wrenn/internal/cli"
	"github.com/wrenn-dev/wrenn/internal/daemon"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/kvmprobe"
)

// version is set by the linker.
var version = "dev"

func main() {
	kvmprobe.MaybeChild()
	app := newProgram(cli.IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, LookupEnv: os.LookupEnv, Program: programName(os.Args[0]), Width: terminalWidth, Progress: isTerminal(os.Stderr)})
	ctx, stop := daemon.OnSignals(context.Background(), func(code int) {
		if app.MayExit() {
			os.Exit(code)
		}
	})
	code := app.Run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// programName returns the command that starts this program again: "wrenn" if PATH
// finds this very file, else the name that it was started with.
func programName(started string) string {
	self, err := os.Stat("/proc/self/exe")
	if err != nil {
		return started
	}
	if path, err := exec.LookPath("wrenn"); err == nil {
		if st, err := os.Stat(path); err == nil && os.SameFile(st, self) {
			return "wrenn"
		}
	}
	return started
}

// newProgram returns the tree of all commands.
func newProgram(io cli.IO) *cli.App {
	p := program{app: cli.New(io), io: io}
	p.addUp()
	p.addServer()
	p.addAgent()
	p.addDown()
	p.addUninstall()
	p.addDoctor()
	p.addImage()
	p.addKey()
	p.addCA()
	p.addBench()
	p.addVersion()
	return p.app
}
