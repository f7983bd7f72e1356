package control_test

import (
	"context"
	"slices"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestProgressOfACreate: each new stage that the host shows while it creates is told once.
func TestProgressOfACreate(t *testing.T) {
	b := setup(t)
	told := make(chan control.CreateStage)
	show := func(ref sandbox.Ref, stage control.CreateStage) {
		b.host.mu.Lock()
		defer b.host.mu.Unlock()
		b.host.vms[ref.ID] = &control.ObservedSandbox{Ref: ref, State: control.VMStarting, Stage: stage, Busy: true}
	}
	stages := []control.CreateStage{control.StageBootingTemplate, control.StageSavingTemplate, control.StageStarting}
	var got []control.CreateStage
	b.host.script(true, "create", func(_ context.Context, ref sandbox.Ref) error {
		show(ref, "of a later agent")
		for _, stage := range stages {
			show(ref, stage)
			got = append(got, <-told)
		}
		return nil
	})
	row, err := b.Create(t.Context(), control.NewSandbox{Progress: func(s control.CreateStage) { told <- s }})
	if err != nil || row.State != sandbox.Running || !slices.Equal(got, stages) {
		t.Errorf("got %s, %v after %v, want running after %v", row.State, err, got, stages)
	}
}
