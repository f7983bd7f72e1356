package host

import (
	"errors"
	"log/slog"
	"os"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/host/network"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// noVMs is a driver on a host without VM processes.
type noVMs struct{ vmm.Driver }

func (noVMs) Find(string) ([]vmm.Record, error) { return nil, nil }
func (noVMs) Info() vmm.Info                    { return vmm.Info{} }

// TestRecoveryKnowsAllNetworksBeforeItActs: a clean-up that one sandbox's
// recovery asks for must not remove the network of another, which is not adopted
// yet.
func TestRecoveryKnowsAllNetworksBeforeItActs(t *testing.T) {
	var m *Manager
	missing := make(chan []string, 2)
	cfg := Config{Dir: t.TempDir(), OnStep: func(string) error {
		var names []string
		for _, name := range []string{"w-1", "w-2"} {
			if !m.leftovers.networks[name] {
				names = append(names, name)
			}
		}
		missing <- names
		return errors.New("nothing is freed here")
	}}
	m = newManager(t.Context(), cfg.withDefaults(), Deps{Driver: noVMs{}, Log: slog.New(slog.DiscardHandler)})
	defer func() { m.end(); m.running.Wait() }()
	for i, netns := range []string{"w-1", "w-2"} {
		id := sandbox.NewID()
		dir := string(m.layout.machine(string(id)))
		rec := journal.Record{
			Version: journal.Version, ID: id, Generation: 1, State: sandbox.Pending,
			Instance: journal.Instance{Network: &network.Record{ID: string(id), Index: i, Netns: netns}},
		}
		if err := errors.Join(os.MkdirAll(dir, 0o700), rec.Write(dir)); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.recoverMachines(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if names := <-missing; len(names) > 0 {
			t.Errorf("a machine acted before the networks %v were known to be wanted", names)
		}
	}
}
