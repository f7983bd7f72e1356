package postgres

import (
	"encoding/json"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// hygieneColumn is how a sandbox.Hygiene stands in its column. Spans are in
// nanoseconds.
type hygieneColumn struct {
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

// hygieneJSON returns nil, which leaves the column as it is, for nil.
func hygieneJSON(h *sandbox.Hygiene) ([]byte, error) {
	if h == nil {
		return nil, nil
	}
	b, err := json.Marshal(hygieneColumn{
		At: h.At.UTC(), Generation: uint64(h.Generation),
		ClockStepNano: int64(h.ClockStep), ClockSkewNano: int64(h.ClockSkew),
		Reseeded: h.Reseeded, NewIdentity: h.NewIdentity, TokenReplaced: h.TokenReplaced,
		NetworkAnswers: h.NetworkAnswers, VMGeneration: h.VMGeneration,
		ConnectionsClosed: h.ConnectionsClosed, StepsNano: h.Steps,
	})
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "internal", "the sandbox's hygiene cannot be stored")
	}
	return b, nil
}

// hygieneFrom returns nil for an empty column.
func hygieneFrom(column []byte) (*sandbox.Hygiene, error) {
	if column == nil {
		return nil, nil
	}
	var c hygieneColumn
	if err := json.Unmarshal(column, &c); err != nil {
		return nil, fault.Wrap(err, fault.Internal, "database_error", "the sandbox's hygiene cannot be read")
	}
	return &sandbox.Hygiene{
		At: c.At, Generation: sandbox.Generation(c.Generation),
		ClockStep: time.Duration(c.ClockStepNano), ClockSkew: time.Duration(c.ClockSkewNano),
		Reseeded: c.Reseeded, NewIdentity: c.NewIdentity, TokenReplaced: c.TokenReplaced,
		NetworkAnswers: c.NetworkAnswers, VMGeneration: c.VMGeneration,
		ConnectionsClosed: c.ConnectionsClosed, Steps: c.StepsNano,
	}, nil
}
