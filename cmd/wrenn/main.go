// Command wrenn is everything that an operator or a user types: the servers
// (up, server, agent), what looks after them (down, uninstall, doctor, image, key), and
// the commands that use sandboxes through the REST API.
//
// This package reads flags and environment and puts the parts together; what
// the parts do is theirs.
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
	app := newProgram(cli.IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, LookupEnv: os.LookupEnv, Program: programName(os.Args[0]), Width: terminalWidth})
	ctx, stop := daemon.OnSignals(context.Background(), func(code int) {
		if app.MayExit() {
			os.Exit(code)
		}
	})
	code := app.Run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// programName returns how a person starts this program again, given how it was
// started: "wrenn" only where PATH has this very file.
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

// newProgram returns the whole tree of commands.
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
	p.addBench()
	p.addVersion()
	return p.app
}
