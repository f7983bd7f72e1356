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
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/guest/boot"
	"github.com/wrenn-dev/wrenn/internal/guest/filesystem"
	"github.com/wrenn-dev/wrenn/internal/guest/process"
	"github.com/wrenn-dev/wrenn/internal/guest/rpc"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
)

// version is set by the linker.
var version = "dev"

// agentArg selects the agent's part.
const agentArg = "agent"

// agentMemory is where the agent's garbage collector starts to work hard. It
// lies below what boot keeps from users.
const agentMemory = 24 << 20

// agentGCPercent lets the heap, which is small, grow to 8 MiB before it is
// collected: to collect it costs a clone under software emulation more than the
// memory.
const agentGCPercent = 200

func main() {
	var err error
	switch {
	case len(os.Args) == 2 && os.Args[1] == agentArg:
		err = runAgent()
	case os.Getpid() == 1:
		err = boot.Run(agentArg)
	default:
		err = errors.New("this is the first process of a sandbox VM and does nothing elsewhere")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "wrenn-guest:", err)
		os.Exit(1)
	}
}

// runAgent serves the guest protocol until a signal.
func runAgent() error {
	unix.Umask(0o022)
	debug.SetMemoryLimit(agentMemory)
	debug.SetGCPercent(agentGCPercent)
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0); err != nil {
		return fmt.Errorf("protect against the out-of-memory killer: %w", err)
	}
	unix.CloseOnExec(boot.MemoryFD)
	unix.CloseOnExec(boot.DiskFD)
	unix.CloseOnExec(boot.LedgerFD)
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()

	web, err := listen(ctx, rpc.Port)
	if err != nil {
		return err
	}
	channel, err := listen(ctx, guestwire.Port)
	if err != nil {
		return err
	}
	prefix := "agent" + os.Getenv(boot.StartEnv) + "-"
	processes := process.NewTable(process.NewCgroups(boot.UserCgroup, prefix))
	server := rpc.NewServer(rpc.Config{
		Processes: processes,
		Accounts:  filesystem.NewAccounts("/"),
		Kernel:    boot.NewMachine(os.NewFile(boot.DiskFD, "disk"), rpc.Port, guestwire.Port),
		Identity:  boot.NewIdentity("/"),
		Freezer:   boot.NewUsers(boot.UserCgroup),
		Vault:     boot.OpenMemory(os.NewFile(boot.MemoryFD, "memory")),
		Orphans:   boot.NewOrphans(boot.OpenLedger(os.NewFile(boot.LedgerFD, "ledger")), prefix),
		Log:       slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: logLevel()})),
		Version:   version,
	})
	fmt.Fprintln(os.Stderr, "wrenn-guest: ready")
	ctx, cancelBoth := context.WithCancel(ctx)
	defer cancelBoth()
	failed := make(chan error, 1)
	go func() {
		defer cancelBoth()
		failed <- server.ServeChannel(ctx, channel)
	}()
	err = server.Serve(ctx, web)
	cancelBoth()
	err = errors.Join(err, <-failed)
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return errors.Join(err, processes.Close(grace))
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
