package control_test

import (
	"log/slog"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/postgres/pgtest"
)

// BenchmarkCreate measures the control plane's share of a create: a real
// database, and a host that answers at once. Each sandbox is destroyed outside
// of the measurement. The test's own server does not wait for the disk; name
// one that does with WRENN_TEST_DATABASE_URL.
func BenchmarkCreate(b *testing.B) {
	host := newFakeHost("h1")
	host.info.VCPUs, host.info.MemoryMB = 1000, 1<<20
	s, err := control.New(control.DefaultConfig(), pgtest.Open(b), newFakeFleet(host), slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		row, err := s.Create(b.Context(), control.NewSandbox{})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := s.Destroy(b.Context(), row.ID); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
