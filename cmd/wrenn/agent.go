package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/internal/certs"
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
	// listen is unix:///path or host:port; the latter needs a token or tls.
	listen, token string
	// tls is nil for clear text.
	tls *tls.Config
	log *slog.Logger
}

// component returns the host agent as a part of a process. VMs keep running
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
	if a.tls != nil {
		listener = tls.NewListener(listener, a.tls)
	}
	a.log.Info("the host agent is ready", "address", listener.Addr().String(), "tls", a.tls != nil)
	ready()
	return rpc.Serve(ctx, listener, handler)
}

const unixScheme = "unix://"

// listenForAgent listens on unix:///path or host:port. It replaces an existing
// socket, which a killed agent left: a running agent would hold the directory's
// lock.
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
	token  secretSetting
	listen agentListen
}

// agentListen holds the agent's address, its name, and the authorities of its
// clients.
type agentListen struct {
	token  *secretSetting
	data   *dataSettings
	listen string
	hostID string
	tls    certSettings
	// clients are the authorities of the control planes that are served.
	clients caSettings
}

func (s *agentListen) flags(f flagSet) {
	f.StringVar(&s.listen, "listen", "", "address of the RPC: unix:///path or host:port (default: a socket in the data directory)")
	f.StringVar(&s.hostID, "host-id", "", "name of this host in the control plane (default: the machine's)")
	s.tls = certSettings{prefix: "tls", whose: "the agent"}
	s.tls.flags(f)
	s.clients = caSettings{flag: "tls-client-ca", description: "file with the authorities of the control planes' certificates"}
	s.clients.flags(f)
}

func (s *agentListen) validate() error {
	if s.listen == "" {
		s.listen = s.data.layout().agentAddress()
	}
	if err := errors.Join(s.tls.validate(), s.clients.validate()); err != nil {
		return err
	}
	if s.clients.file != "" && !s.tls.given() {
		return errors.New("--tls-client-ca needs --tls-cert and --tls-key")
	}
	if strings.HasPrefix(s.listen, unixScheme+"/") {
		return nil
	}
	if _, _, err := net.SplitHostPort(s.listen); err != nil {
		return fmt.Errorf("--listen is unix:///path or host:port, not %q", s.listen)
	}
	local, err := onlyLoopback(s.listen)
	switch {
	case err != nil:
		return fmt.Errorf("--listen: %w", err)
	case !local && (!s.tls.given() || s.clients.file == ""):
		return errNeedsTLS
	case s.clients.file == "" && s.token.value == "":
		return errors.New("an agent that listens on TCP needs --token-file, WRENN_TOKEN or --tls-client-ca")
	}
	return nil
}

// config returns the agent's side of TLS, nil for clear text.
func (s *agentListen) config() *tls.Config {
	if !s.tls.given() {
		return nil
	}
	return certs.ServerConfig(s.tls.identity, s.clients.authorities)
}

func (p program) addAgent() {
	cfg := &agentConfig{token: secretSetting{name: "token", description: "secret between control plane and agents"}}
	cfg.listen.token, cfg.listen.data = &cfg.token, &cfg.data
	cmd := &cobra.Command{
		Use:   "agent [flags]",
		Short: "Run the host agent alone, for a control plane elsewhere",
		Long: "Run the host agent alone. It starts the virtual machines of this host for its control plane, which proves\n" +
			"itself with a certificate (--tls-client-ca), a token, or both. Sandboxes keep running when the agent ends, and the\n" +
			"next one takes them over.\n\n" +
			"Every flag can be set by an environment variable, such as --host-id by WRENN_HOST_ID.",
		Example: "  sudo wrenn agent --listen 10.0.0.2:7070 --host-id one \\\n" +
			"    --tls-cert /etc/wrenn/one.pem --tls-key /etc/wrenn/one.key --tls-client-ca /etc/wrenn/ca.pem",
	}
	p.add(p.app.Root(), cmd, config{&cfg.data, &cfg.dataFS, &cfg.log, &cfg.host, &cfg.token, &cfg.listen},
		func(ctx context.Context, _ []string) error {
			log := cfg.log.logger(p.io.Err)
			slog.SetDefault(log) // packages without a logger of their own use it, such as certs
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
				listen: cfg.listen.listen, token: cfg.token.value, tls: cfg.listen.config(), log: log,
			}
			parts, err := spaceKeepers(dirs, log)
			if err != nil {
				return err
			}
			return daemon.Run(ctx, log, append(parts, agent.component())...)
		})
}
