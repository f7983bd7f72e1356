package control

import (
	"context"
	"slices"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// CreateStage is a part of a create. It is part of the API.
type CreateStage string

// The stages, in their order. The first three belong to the first create from an image with
// a size, which makes the snapshot that later ones start from.
const (
	StageBootingTemplate  CreateStage = "booting_template"
	StageStartingTemplate CreateStage = "starting_template"
	StageSavingTemplate   CreateStage = "saving_template"
	StageStarting         CreateStage = "starting"
)

// Valid reports whether s is a stage.
func (s CreateStage) Valid() bool {
	return slices.Contains([]CreateStage{StageBootingTemplate, StageStartingTemplate, StageSavingTemplate, StageStarting}, s)
}

// stageEvery is the pause between two questions for the stage of a create.
const stageEvery = 500 * time.Millisecond

// tell asks host for the stage of the create of the sandbox id, and tells progress each that
// is new, until stop is called. progress may be nil.
func tell(ctx context.Context, host Host, id sandbox.ID, progress func(CreateStage)) (stop func()) {
	if progress == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		// A panic in progress must not end the server, and the create goes on without it.
		_ = fault.Caught(func() error { tellUntil(ctx, host, id, progress); return nil })
	}()
	return func() { cancel(); <-done }
}

func tellUntil(ctx context.Context, host Host, id sandbox.ID, progress func(CreateStage)) {
	tick := time.NewTicker(stageEvery)
	defer tick.Stop()
	var last CreateStage
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		observed, err := host.Sandbox(ctx, id)
		if err != nil || observed == nil || ctx.Err() != nil {
			continue // the create itself tells of a host that does not answer
		}
		// A stage of a later agent is not passed on: users see it.
		if observed.Stage.Valid() && observed.Stage != last {
			last = observed.Stage
			progress(last)
		}
	}
}
