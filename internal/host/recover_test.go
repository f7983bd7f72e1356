package host

import (
	"errors"
	"log/slog"
	"os"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/host/network"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/linux/proc"
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
	m = newManager(t.Context(), cfg.withDefaults(), Deps{Drivers: vmm.Drivers{noVMs{}}, Log: slog.New(slog.DiscardHandler)})
	defer func() { m.end(); m.running.Wait() }()
	for i, netns := range []string{"w-1", "w-2"} {
		id := sandbox.NewID()
		dir := string(m.layout.machine(string(id)))
		rec := journal.Record{
			ID: id, Generation: 1, State: sandbox.Pending,
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

// TestAgentNeedsTheDriversOfRunningVMs: an agent does not start beside a VM of a driver
// that it has not, which it could neither use nor end. One that has ended is no
// obstacle.
func TestAgentNeedsTheDriversOfRunningVMs(t *testing.T) {
	own, err := proc.ReadStat(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	boot, err := proc.BootID()
	if err != nil {
		t.Fatal(err)
	}
	m := &Manager{drivers: vmm.Drivers{noVMs{}}}
	vm := vmm.Record{Driver: "gone", PID: os.Getpid(), StartTicks: own.StartTicks, BootID: boot}
	for name, c := range map[string]struct {
		change func(*vmm.Record)
		want   string
	}{
		"runs":           {func(*vmm.Record) {}, "runtime_unavailable"},
		"ended":          {func(r *vmm.Record) { r.StartTicks++ }, ""},
		"before a boot":  {func(r *vmm.Record) { r.BootID = "another" }, ""},
		"a known driver": {func(r *vmm.Record) { r.Driver = "" }, ""},
	} {
		rec := vm
		c.change(&rec)
		mc := &machine{body: body{rec: journal.Record{ID: sandbox.NewID(), Instance: journal.Instance{VM: &rec}}}}
		if err := m.needsDrivers([]*machine{mc}); fault.ReasonOf(errors.Unwrap(err)) != c.want && fault.ReasonOf(err) != c.want {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
