package control

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// twoHosts is a fleet of two hosts with old reports.
type twoHosts struct {
	Fleet
	reports []HostInfo
}

func (f *twoHosts) Hosts() []HostInfo { return f.reports }

// emptyStore takes every row, and has no others.
type emptyStore struct{}

func (emptyStore) Insert(_ context.Context, row Sandbox) (Sandbox, error) { return row, nil }
func (emptyStore) Usage(context.Context) (map[string]Capacity, error) {
	return map[string]Capacity{}, nil
}

// TestPlacementCountsPromises: the sandboxes that were placed since the last report of a
// host use up its room for disks, and under gVisor also that for memory.
func TestPlacementCountsPromises(t *testing.T) {
	host := func(id string, memoryMB, diskRoomMB, memoryRoomMB int, runtime HostRuntime) HostInfo {
		return HostInfo{
			ID: id, Reachable: true, SeenAt: time.Now(), Runtimes: []HostRuntime{runtime}, VCPUs: 64, MemoryMB: memoryMB,
			Limits:    sandbox.Limits{MaxVCPUs: 4, MinMemoryMB: 128, MaxMemoryMB: 4096},
			Templates: []string{"minimal"}, DiskRoomMB: diskRoomMB, MemoryRoomMB: memoryRoomMB,
		}
	}
	micro := HostRuntime{Runtime: sandbox.RuntimeMicroVM}
	sentry := HostRuntime{Runtime: sandbox.RuntimeGVisor, DiskMemoryShare: 0.5}
	spec := sandbox.Spec{MemoryMB: 512, DiskMB: 2048}.WithDefaults()
	for name, first := range map[string]HostInfo{
		"disk": host("first", 1<<20, 2*2048, 1<<20, micro), "disk in memory": host("first", 4096, 1<<20, 3500, sentry),
	} {
		t.Run(name, func(t *testing.T) {
			second := host("second", 1<<16, 1<<20, 1<<14, first.Runtimes[0])
			fleet := &twoHosts{reports: []HostInfo{first, second}}
			c := common{cfg: DefaultConfig(), fleet: fleet, log: slog.New(slog.DiscardHandler)}
			p := placer{common: c, store: emptyStore{}, usage: newUsageCache(emptyStore{}), inventory: &inventory{common: c}}
			place := func(want string) {
				t.Helper()
				row, err := p.admit(t.Context(), Sandbox{ID: sandbox.NewID(), Spec: spec}, "")
				if err != nil || row.HostID != want {
					t.Errorf("placed on %q (%v), want %q", row.HostID, err, want)
				}
			}
			place("first")
			place("first")
			place("second") // there is no room on the first, as its next report will say
			fleet.reports[0].SeenAt = time.Now()
			place("first") // which said that there is
		})
	}
}
