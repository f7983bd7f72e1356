// Command wrenn-guest is the first process of every sandbox VM, and the agent
// that the first process runs. It is the /init of the initramfs.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/guest/agent"
	"github.com/wrenn-dev/wrenn/internal/guest/boot"
	"github.com/wrenn-dev/wrenn/internal/guest/channel"
	"github.com/wrenn-dev/wrenn/internal/guest/envd"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
)

// version is set by the linker.
var version = "dev"

// agentArg is the argument with which Init starts the agent.
const agentArg = "agent"

// gvisorArg is the argument with which the host starts Init in a gVisor sandbox.
// Init gives it to the agent, after agentArg.
const gvisorArg = "gvisor"

// agentMemory is the soft memory limit of the agent's Go runtime. It is below the
// memory that boot reserves for the agent.
const agentMemory = 24 << 20

// agentGCPercent lets the small heap grow to 8 MiB before a collection, which
// under software emulation costs a clone more than the memory.
const agentGCPercent = 200

func main() {
	var err error
	switch args := os.Args[1:]; {
	case slices.Equal(args, []string{agentArg}):
		err = runInVM()
	case slices.Equal(args, []string{agentArg, gvisorArg}):
		err = runInGVisor()
	case os.Getpid() == 1 && slices.Equal(args, []string{gvisorArg}):
		err = boot.RunGVisor(agentArg, gvisorArg)
	case os.Getpid() == 1:
		err = boot.Run(agentArg)
	default:
		err = errors.New("wrenn-guest is the first process of a sandbox and does nothing elsewhere")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "wrenn-guest:", err)
		os.Exit(1)
	}
}

// runInVM is runAgent in a virtual machine, whose kernel ends processes if its memory
// is used up.
func runInVM() error {
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0); err != nil {
		return fmt.Errorf("protect against the out-of-memory killer: %w", err)
	}
	return runAgent(agent.Config{Platform: boot.NewPlatform(envd.Port, guestwire.Port), DirectWrites: true})
}

// runInGVisor is runAgent in a gVisor sandbox, whose memory the agent watches.
func runInGVisor() error {
	platform, err := boot.NewGVisorPlatform()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go platform.WatchMemory(ctx)
	// gVisor keeps the files of a sandbox in memory of its own.
	return runAgent(agent.Config{Platform: platform})
}

// runAgent serves the control channel and the public protocol until a signal. It completes
// config.
func runAgent(config agent.Config) error {
	unix.Umask(0o022)
	debug.SetMemoryLimit(agentMemory)
	debug.SetGCPercent(agentGCPercent)
	for fd := boot.FirstFD; fd <= boot.LastFD; fd++ { // none is for commands
		unix.CloseOnExec(fd)
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()

	public, err := listen(ctx, envd.Port)
	if err != nil {
		return err
	}
	control, err := listen(ctx, guestwire.Port)
	if err != nil {
		return err
	}
	config.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: logLevel()}))
	config.Version = version
	a := agent.New(config)
	fmt.Fprintln(os.Stderr, "wrenn-guest: ready")
	ctx, cancelBoth := context.WithCancel(ctx)
	defer cancelBoth()
	failed := make(chan error, 1)
	go func() {
		defer cancelBoth()
		failed <- channel.New(a).Serve(ctx, control)
	}()
	err = envd.New(a).Serve(ctx, public)
	cancelBoth()
	err = errors.Join(err, <-failed)
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return errors.Join(err, a.Close(grace))
}

// listen returns a listener for plain TCP without keepalive probes: the peer is
// the host of this machine, and an idle connection has its own time limit.
func listen(ctx context.Context, port int) (net.Listener, error) {
	config := net.ListenConfig{KeepAlive: -1}
	config.SetMultipathTCP(false)
	return config.Listen(ctx, "tcp4", net.JoinHostPort("", strconv.Itoa(port)))
}

func logLevel() slog.Level {
	if boot.Debugging() {
		return slog.LevelDebug
	}
	return slog.LevelWarn
}
