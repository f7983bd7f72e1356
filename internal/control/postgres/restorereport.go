package postgres

import (
	"encoding/json"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// restoreReportColumn is how a sandbox.RestoreReport stands in its column. Spans are in
// nanoseconds.
type restoreReportColumn struct {
	At                time.Time                `json:"at"`
	Generation        uint64                   `json:"generation"`
	ClockStepNano     int64                    `json:"clock_step_nano"`
	ClockSkewNano     int64                    `json:"clock_skew_nano"`
	Reseeded          bool                     `json:"reseeded"`
	NewIdentity       bool                     `json:"new_identity"`
	TokenReplaced     bool                     `json:"token_replaced"`
	NetworkAnswers    bool                     `json:"network_answers"`
	VMGeneration      string                   `json:"vm_generation"`
	ConnectionsClosed int                      `json:"connections_closed"`
	StepsNano         map[string]time.Duration `json:"steps_nano,omitempty"`
}

// restoreReportJSON returns nil, which leaves the column as it is, for nil.
func restoreReportJSON(h *sandbox.RestoreReport) ([]byte, error) {
	if h == nil {
		return nil, nil
	}
	b, err := json.Marshal(restoreReportColumn{
		At: h.At.UTC(), Generation: uint64(h.Generation),
		ClockStepNano: int64(h.ClockStep), ClockSkewNano: int64(h.ClockSkew),
		Reseeded: h.Reseeded, NewIdentity: h.NewIdentity, TokenReplaced: h.TokenReplaced,
		NetworkAnswers: h.NetworkAnswers, VMGeneration: h.VMGeneration,
		ConnectionsClosed: h.ConnectionsClosed, StepsNano: h.Steps,
	})
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "internal", "the sandbox's restore report cannot be stored")
	}
	return b, nil
}

// restoreReportFrom returns nil for an empty column.
func restoreReportFrom(column []byte) (*sandbox.RestoreReport, error) {
	if column == nil {
		return nil, nil
	}
	var c restoreReportColumn
	if err := json.Unmarshal(column, &c); err != nil {
		return nil, fault.Wrap(err, fault.Internal, "database_error", "the sandbox's restore report cannot be read")
	}
	return &sandbox.RestoreReport{
		At: c.At, Generation: sandbox.Generation(c.Generation),
		ClockStep: time.Duration(c.ClockStepNano), ClockSkew: time.Duration(c.ClockSkewNano),
		Reseeded: c.Reseeded, NewIdentity: c.NewIdentity, TokenReplaced: c.TokenReplaced,
		NetworkAnswers: c.NetworkAnswers, VMGeneration: c.VMGeneration,
		ConnectionsClosed: c.ConnectionsClosed, Steps: c.StepsNano,
	}, nil
}
