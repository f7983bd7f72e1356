package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/internal/daemon"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/rpc"
)

// hostAgent is the host agent before it is started.
type hostAgent struct {
	host hostSettings
	dirs layout
	// id names the host; empty is the machine's host name.
	id string
	// listen is unix:///path or host:port; the latter needs a token.
	listen, token string
	log           *slog.Logger
}

// component returns the host agent as a part of a process. VMs go on running
// when it stops, for the next agent to take over.
func (a hostAgent) component() daemon.Component {
	return daemon.Component{Name: "host agent", Run: a.run, StopTimeout: 30 * time.Second}
}

func (a hostAgent) run(ctx context.Context, ready func()) error {
	m, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer m.close(a.log)
	handler, err := rpc.NewHandler(m.manager, a.token, a.log)
	if err != nil {
		return err
	}
	listener, err := listenForAgent(ctx, a.listen)
	if err != nil {
		return err
	}
	a.log.Info("the host agent is ready", "address", a.listen)
	ready()
	return rpc.Serve(ctx, listener, handler)
}

const unixScheme = "unix://"

// listenForAgent listens on unix:///path or host:port. A socket there is that
// of an agent that was killed: the living one holds the directory's lock.
func listenForAgent(ctx context.Context, address string) (net.Listener, error) {
	path, isUnix := strings.CutPrefix(address, unixScheme)
	network := "tcp"
	if isUnix {
		network, address = "unix", path
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fault.Wrap(err, fault.Invalid, "cannot_listen", "cannot remove the old socket %s", path)
		}
	}
	l, err := new(net.ListenConfig).Listen(ctx, network, address)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "cannot_listen", "cannot listen on %s", address)
	}
	return l, nil
}

type agentConfig struct {
	data   dataSettings
	dataFS dataFSSettings
	log    logSettings
	host   hostSettings
	token  tokenSettings
	listen agentListen
}

// agentListen says where the agent is reached and what it is called.
type agentListen struct {
	token  *tokenSettings
	data   *dataSettings
	listen string
	hostID string
}

func (s *agentListen) flags(f flagSet) {
	f.StringVar(&s.listen, "listen", "", "address of the RPC: unix:///path or host:port (a socket in the data directory)")
	f.StringVar(&s.hostID, "host-id", "", "name of this host in the control plane (the machine's)")
}

func (s *agentListen) validate() error {
	if s.listen == "" {
		s.listen = s.data.layout().agentAddress()
	}
	if strings.HasPrefix(s.listen, unixScheme+"/") {
		return nil
	}
	if _, _, err := net.SplitHostPort(s.listen); err != nil {
		return fmt.Errorf("--listen is unix:///path or host:port, not %q", s.listen)
	}
	if s.token.value == "" {
		return errors.New("an agent that listens on TCP needs --token-file or --token")
	}
	return nil
}

func (p program) addAgent() {
	cfg := &agentConfig{token: tokenSettings{flag: "token"}}
	cfg.listen.token, cfg.listen.data = &cfg.token, &cfg.data
	cmd := &cobra.Command{
		Use:   "agent [flags]",
		Short: "Run the host agent alone, for a control plane elsewhere",
		Long: "Run the host agent alone. It starts the virtual machines of this host for the control plane that knows its\n" +
			"token. They go on running when it ends, and the next one takes them over.\n\n" +
			"Each flag can be given as an environment variable: --token as WRENN_TOKEN.",
		Example: "  sudo wrenn agent --listen 10.0.0.2:7070 --host-id one --token-file /etc/wrenn/token",
	}
	p.add(p.app.Root(), cmd, config{&cfg.data, &cfg.dataFS, &cfg.log, &cfg.host, &cfg.token, &cfg.listen},
		func(ctx context.Context, _ []string) error {
			log := cfg.log.logger(p.io.Err)
			logConfiguration(log, cmd.Flags())
			if err := needRoot(os.Geteuid(), "wrenn agent"); err != nil {
				return err
			}
			dirs := cfg.data.layout()
			if err := dirs.make(); err != nil {
				return err
			}
			if err := cfg.dataFS.prepare(ctx, dirs, log); err != nil {
				return err
			}
			agent := hostAgent{
				host: cfg.host, dirs: dirs, id: cfg.listen.hostID,
				listen: cfg.listen.listen, token: cfg.token.value, log: log,
			}
			return daemon.Run(ctx, log, agent.component())
		})
}
