package postgres_test

import (
	"testing"

	"github.com/wrenn-dev/wrenn/internal/control/postgres/pgtest"
	"github.com/wrenn-dev/wrenn/internal/control/storetest"
	"github.com/wrenn-dev/wrenn/internal/control/templates"
	"github.com/wrenn-dev/wrenn/internal/control/templates/plan"
)

// TestEndedBuildsHaveNoPlan: plans have up to 8 MiB, and lists read the rows of many
// builds.
func TestEndedBuildsHaveNoPlan(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	s := storeOn(pool).Templates()
	start := func() templates.Build {
		b := storetest.Begin(t, s, "site")
		if _, _, err := s.StartBuild(t.Context(), b.ID, plan.Plan{Start: "run"}, 1, false); err != nil {
			t.Fatal(err)
		}
		return b
	}
	ready, failed := storetest.Built(t, s, "site"), start()
	if won, err := s.FailBuild(t.Context(), failed.ID, 1, templates.Reason{Message: "no"}); err != nil || !won {
		t.Fatal(won, err)
	}
	superseded := start()
	start()
	for name, b := range map[string]templates.Build{"ready": ready, "failed": failed, "superseded": superseded} {
		var status string
		var kept bool
		if err := pool.QueryRow(t.Context(), "SELECT status, plan IS NOT NULL FROM template_builds WHERE id = $1", string(b.ID)).Scan(&status, &kept); err != nil {
			t.Fatal(err)
		}
		if kept || status == "building" {
			t.Errorf("the %s build is %s and has a plan: %t", name, status, kept)
		}
	}
	var plans int
	if err := pool.QueryRow(t.Context(), "SELECT count(plan) FROM template_builds").Scan(&plans); err != nil || plans != 1 {
		t.Errorf("%d plans are kept (%v), want that of the build under way", plans, err)
	}
}
