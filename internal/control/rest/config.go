package rest

import (
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/templates"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Defaults of the Config fields that have one.
const (
	DefaultMaxUploadBytes = 4 << 30
	DefaultMaxOutputBytes = 8 << 20
	DefaultStallTimeout   = 5 * time.Minute
	// DefaultOutputBudgetBytes leaves room for sixteen full answers.
	DefaultOutputBudgetBytes = 256 << 20
)

// Config holds the parts and limits of a REST handler. Sandboxes, Access and Log
// are required; a zero limit is its default.
type Config struct {
	Sandboxes control.API
	// Templates builds templates. If it is nil, requests below /v1/templates are refused
	// with 501.
	Templates templates.API
	Access    Access
	Log       *slog.Logger
	// Answers keeps the answers to requests with an Idempotency-Key. If it is
	// nil, such requests are refused with 501.
	Answers Answers
	// Secrets signs URLs of files. If it is nil, none are signed and signed ones are
	// refused.
	Secrets Secrets
	// PortURL returns the address of a sandbox's ports with "{port}" for the port's
	// number. Nil is a server that serves none by host name.
	PortURL func(id sandbox.ID) string
	// Version is shown by /healthz.
	Version string
	// MaxUploadBytes is the largest file that may be uploaded.
	MaxUploadBytes int64
	// MaxOutputBytes bounds stdout, and stderr, of an exec with a collected
	// answer. Streamed answers have no limit.
	MaxOutputBytes int
	// OutputBudgetBytes bounds the memory that all execs with collected answers
	// hold together. A quarter of it is reserved for the first 64 KiB of each
	// exec, and an exec is refused with 503 if they cannot be reserved. Further
	// output that exceeds the budget is dropped and reported as truncated.
	OutputBudgetBytes int64
	// StallTimeout bounds the time in which a peer of an upload, a download or
	// a streamed exec moves no byte.
	StallTimeout time.Duration
}

// server is the receiver of the handlers. All of Config is constant after New.
type server struct {
	Config
	outputs *outputBudget
	flights flights
	// begun is the number of requests with an Idempotency-Key.
	begun atomic.Int64
}

// New returns the handler of the REST API. The error names a field of c that is
// missing or out of range.
func New(c Config) (http.Handler, error) {
	switch {
	case c.Sandboxes == nil:
		return nil, invalidConfig("Sandboxes is missing")
	case c.Access.guard == nil:
		return nil, invalidConfig("Access is missing: choose OpenOnLoopback, or RequireKey with an Authenticator")
	case c.Log == nil:
		return nil, invalidConfig("Log is missing")
	case c.MaxUploadBytes < 0 || c.MaxOutputBytes < 0 || c.OutputBudgetBytes < 0 || c.StallTimeout < 0:
		return nil, invalidConfig("a limit is negative")
	}
	if c.MaxUploadBytes == 0 {
		c.MaxUploadBytes = DefaultMaxUploadBytes
	}
	if c.MaxOutputBytes == 0 {
		c.MaxOutputBytes = DefaultMaxOutputBytes
	}
	if c.StallTimeout == 0 {
		c.StallTimeout = DefaultStallTimeout
	}
	if c.OutputBudgetBytes == 0 {
		c.OutputBudgetBytes = DefaultOutputBudgetBytes
	}
	s := &server{Config: c, outputs: newOutputBudget(c.OutputBudgetBytes)}
	return s.routes(), nil
}

func invalidConfig(what string) error {
	return fault.New(fault.Invalid, "invalid_config", "rest: %s", what)
}
