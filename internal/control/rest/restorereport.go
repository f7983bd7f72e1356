package rest

import (
	"time"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// restoreReportJSON is the schema RestoreReport.
type restoreReportJSON struct {
	Generation        uint64             `json:"generation"`
	At                time.Time          `json:"at"`
	ClockStepMS       float64            `json:"clock_step_ms"`
	ClockSkewMS       float64            `json:"clock_skew_ms"`
	Reseeded          bool               `json:"reseeded"`
	NewIdentity       bool               `json:"new_identity"`
	TokenReplaced     bool               `json:"token_replaced"`
	NetworkAnswers    bool               `json:"network_answers"`
	VMGeneration      string             `json:"vm_generation"`
	ConnectionsClosed int                `json:"connections_closed"`
	StepsMS           map[string]float64 `json:"steps_ms"`
}

// restoreReportOf returns nil, which is null in JSON, for nil.
func restoreReportOf(h *sandbox.RestoreReport) *restoreReportJSON {
	if h == nil {
		return nil
	}
	steps := make(map[string]float64, len(h.Steps))
	for name, took := range h.Steps {
		steps[name] = millis(took)
	}
	return &restoreReportJSON{
		Generation: uint64(h.Generation), At: h.At.UTC(),
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
