// Command wrenn is everything that an operator or a user types: the servers
// (up, server, agent), what looks after them (down, doctor, image, key), and
// the commands that use sandboxes through the REST API.
//
// This package reads flags and environment and puts the parts together; what
// the parts do is theirs.
package main

import (
	"context"
	"os"

	"github.com/wrenn-dev/wrenn/internal/cli"
	"github.com/wrenn-dev/wrenn/internal/daemon"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/kvmprobe"
)

// version is set by the linker.
var version = "dev"

func main() {
	kvmprobe.MaybeChild()
	ctx, stop := daemon.OnSignals(context.Background(), os.Exit)
	code := newProgram(cli.IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, LookupEnv: os.LookupEnv}).Run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// newProgram returns the whole tree of commands.
func newProgram(io cli.IO) *cli.App {
	p := program{app: cli.New(io), io: io}
	p.addUp()
	p.addServer()
	p.addAgent()
	p.addDown()
	p.addDoctor()
	p.addImage()
	p.addKey()
	p.addBench()
	p.addVersion()
	return p.app
}
