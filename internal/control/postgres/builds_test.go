package postgres_test

import (
	"testing"

	"github.com/wrenn-dev/wrenn/internal/build/plan"
	"github.com/wrenn-dev/wrenn/internal/control/postgres/pgtest"
	"github.com/wrenn-dev/wrenn/internal/control/storetest"
	"github.com/wrenn-dev/wrenn/internal/control/templates"
	"github.com/wrenn-dev/wrenn/internal/fault"
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

// TestReadsOfBuildsTakeNoPlan: only the read of the plan itself names its column.
func TestReadsOfBuildsTakeNoPlan(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	s := storeOn(pool).Templates()
	b := storetest.Begin(t, s, "site", "v1")
	if _, _, err := s.StartBuild(t.Context(), b.ID, plan.Plan{Start: "run"}, 1, false); err != nil {
		t.Fatal(err)
	}
	// A statement that reads the column fails from now on.
	if _, err := pool.Exec(t.Context(), "ALTER TABLE template_builds RENAME COLUMN plan TO moved"); err != nil {
		t.Fatal(err)
	}
	_, get := s.GetBuild(t.Context(), b.ID)
	_, find := s.FindBuild(t.Context(), b.Template, string(b.ID))
	list, listErr := s.Builds(t.Context(), b.Template, 10)
	claimed, orphans := s.Orphans(t.Context(), 2)
	_, owned := s.Owned(t.Context(), 2)
	for name, err := range map[string]error{
		"GetBuild": get, "FindBuild": find, "Builds": listErr, "Orphans": orphans, "Owned": owned,
		"AppendLogs": s.AppendLogs(t.Context(), b.ID, 2, []templates.LogEntry{{Level: "info", Message: "m"}}),
	} {
		if err != nil {
			t.Errorf("%s: %v, want no read of a plan", name, err)
		}
	}
	if len(list) != 1 || len(claimed) != 1 {
		t.Errorf("listed %+v and claimed %+v, want the build", list, claimed)
	}
	if _, _, err := s.OwnedBuild(t.Context(), b.ID, 2); err == nil {
		t.Error("OwnedBuild reads no plan, so that the test shows nothing")
	}
}

// TestPlanOfAnotherVersion: a stored plan that does not decode has a reason of its own.
func TestPlanOfAnotherVersion(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	s := storeOn(pool).Templates()
	b := storetest.Begin(t, s, "site")
	if _, _, err := s.StartBuild(t.Context(), b.ID, plan.Plan{}, 1, false); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), `UPDATE template_builds SET plan = '{"Stages": 7}'`); err != nil {
		t.Fatal(err)
	}
	if _, owned, err := s.OwnedBuild(t.Context(), b.ID, 1); owned || fault.ReasonOf(err) != templates.ReasonPlan {
		t.Errorf("%t, %v, want %s", owned, err, templates.ReasonPlan)
	}
}
