package rest

import (
	"time"

	"github.com/wrenn-dev/wrenn/api/types"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// restoreReportOf returns nil, which is null in JSON, for nil.
func restoreReportOf(h *sandbox.RestoreReport) *types.RestoreReport {
	if h == nil {
		return nil
	}
	steps := make(map[string]float64, len(h.Steps))
	for name, took := range h.Steps {
		steps[name] = millis(took)
	}
	return &types.RestoreReport{
		Generation: int64(h.Generation), At: h.At.UTC(),
		ClockStepMS: millis(h.ClockStep), ClockSkewMS: millis(h.ClockSkew),
		Reseeded: h.Reseeded, NewIdentity: h.NewIdentity, TokenReplaced: h.TokenReplaced,
		NetworkAnswers: h.NetworkAnswers, VMGeneration: h.VMGeneration,
		ConnectionsClosed: h.ConnectionsClosed, StepsMS: steps,
	}
}

// millis is d in milliseconds, to the microsecond.
func millis(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond).Microseconds()) / 1000
}
