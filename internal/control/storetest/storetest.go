package storetest

import (
	"context"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Open returns an empty store that lives as long as the test.
type Open func(t *testing.T) control.Store

// Run runs the whole suite, each test in parallel on a store of its own.
func Run(t *testing.T, open Open) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Open)
	}{
		{"InsertGetMove", testInsertGetMove},
		{"MoveActive", testMoveActive},
		{"GetUnknown", testGetUnknown},
		{"MoveLegality", testMoveLegality},
		{"MoveRace", testMoveRace},
		{"MoveOldGeneration", testMoveOldGeneration},
		{"CapacityUnderRace", testCapacityUnderRace},
		{"CapacityIsGivenBack", testCapacityIsGivenBack},
		{"ResumeWithoutRoom", testResumeWithoutRoom},
		{"InsertOnUnknownHost", testInsertOnUnknownHost},
		{"ListFilter", testListFilter},
		{"Touch", testTouch},
		{"Retention", testRetention},
		{"NameIsUniqueAmongLive", testNameIsUniqueAmongLive},
		{"ListByMetadata", testListByMetadata},
		{"SnapshotThereAndBack", testSnapshotThereAndBack},
		{"SnapshotTemplates", testSnapshotTemplates},
		{"SnapshotQuotaUnderRace", testSnapshotQuotaUnderRace},
		{"ListSnapshots", testListSnapshots},
		{"RemoveFailedSnapshots", testRemoveFailedSnapshots},
		{"InsertForkUnderRace", testInsertForkUnderRace},
		{"ClocksCompareAndSet", testClocksCompareAndSet},
		{"EgressCompareAndSet", testEgressCompareAndSet},
		{"LiveServers", testLiveServers},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t, open)
		})
	}
}

// Host records a host with room for n small sandboxes.
func Host(t *testing.T, s control.Store, id string, n int) {
	t.Helper()
	err := s.SaveHost(t.Context(), control.HostInfo{ID: id}, control.Capacity{VCPUs: n, MemoryMB: n * 512})
	if err != nil {
		t.Fatal(err)
	}
}

// NewRow returns the row of a small pending sandbox.
func NewRow(hostID string) control.Sandbox {
	return control.Sandbox{
		ID: sandbox.NewID(), Generation: 1, State: sandbox.Pending, HostID: hostID,
		Spec: sandbox.Spec{Template: "minimal", VCPUs: 1, MemoryMB: 512, DiskMB: 2048, OnTimeout: sandbox.TimeoutDestroy},
	}
}

// Insert inserts row, which must succeed.
func Insert(t *testing.T, s control.Store, row control.Sandbox) control.Sandbox {
	t.Helper()
	row, err := s.Insert(t.Context(), row)
	if err != nil {
		t.Fatal(err)
	}
	return row
}

// Walk moves row through states, each of which must be won.
func Walk(t *testing.T, s control.Store, row control.Sandbox, states ...sandbox.State) control.Sandbox {
	t.Helper()
	for _, to := range states {
		next, won, err := s.Move(t.Context(), control.Move{Ref: row.Ref(), From: row.State, To: to})
		if err != nil || !won {
			t.Fatalf("move %s to %s: won %t, error %v", row.State, to, won, err)
		}
		row = next
	}
	return row
}

// plenty is a quota that is never used up.
var plenty = control.SnapshotQuota{Count: 1000}

// NewSnapshot returns the row of a named snapshot that is being created.
func NewSnapshot(hostID string) control.Snapshot {
	return control.Snapshot{
		ID: sandbox.NewSnapshotID(), Kind: control.KindNamed, Status: control.SnapshotCreating, HostID: hostID,
		Of:   sandbox.Ref{ID: "of", Generation: 1},
		Spec: sandbox.Spec{Template: "minimal", VCPUs: 1, MemoryMB: 512, DiskMB: 2048, Runtime: sandbox.RuntimeGVisor},
	}
}

// Take inserts a snapshot and moves it to status.
func Take(t *testing.T, s control.Store, snap control.Snapshot, status control.SnapshotStatus) control.Snapshot {
	t.Helper()
	row, err := s.InsertSnapshot(t.Context(), snap, plenty)
	if err != nil {
		t.Fatal(err)
	}
	if status == control.SnapshotCreating {
		return row
	}
	row, won, err := s.MoveSnapshot(t.Context(), control.SnapshotMove{ID: row.ID, From: control.SnapshotStatuses(), To: status})
	if err != nil || !won {
		t.Fatal(won, err)
	}
	return row
}

// testLiveServers: a server is live from the call of held to the end of its
// context, and soon afterwards no longer.
func testLiveServers(t *testing.T, open Open) {
	s := open(t)
	ids := []control.ServerID{1 << 40, 7}
	ctx, cancel := context.WithCancel(t.Context())
	held, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- s.HoldServer(ctx, 1<<40, func() { close(held) }) }()
	select {
	case <-held:
	case err := <-ended:
		t.Fatal(err)
	}
	if live, err := s.LiveServers(t.Context(), ids); err != nil || len(live) != 1 || live[0] != 1<<40 {
		t.Errorf("live are %v, %v, want the one that is held", live, err)
	}
	cancel()
	if err := <-ended; !fault.Is(err, fault.Canceled) {
		t.Errorf("the end is %v, want Canceled", err)
	}
	for live := ids; len(live) > 0; { // a server process may take a moment to see its client go
		var err error
		if live, err = s.LiveServers(t.Context(), ids); err != nil {
			t.Fatal(err)
		}
	}
}
