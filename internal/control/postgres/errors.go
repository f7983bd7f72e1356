package postgres

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// SQLSTATE codes that mean something to us (PostgreSQL manual, appendix A).
const (
	uniqueViolation = "23505"
	// Classes: the first two characters.
	classConnection   = "08"
	classResources    = "53"
	classIntervention = "57" // shutdown, crash recovery, cancelled
)

// liveNames is the unique index on the names of sandboxes that have not ended.
const liveNames = "sandboxes_live_name"

// faultOf classifies an error of the database. Faults and nil pass through;
// rows that are missing must be told apart before.
func faultOf(err error) error {
	var (
		known      *fault.Error
		answer     *pgconn.PgError
		connecting *pgconn.ConnectError
	)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return err
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fault.As(err)
	case errors.As(err, &connecting):
		return unavailable(err)
	case !errors.As(err, &answer):
		// The server did not answer: the connection broke.
		return unavailable(err)
	case answer.Code == uniqueViolation && answer.ConstraintName == liveNames:
		return fault.Wrap(err, fault.Exists, control.ReasonNameTaken,
			"another sandbox that has not ended has this name; choose another name, or destroy that sandbox first")
	case answer.Code == uniqueViolation:
		return fault.Wrap(err, fault.Exists, "exists", "it exists already")
	case strings.HasPrefix(answer.Code, classConnection),
		strings.HasPrefix(answer.Code, classResources),
		strings.HasPrefix(answer.Code, classIntervention):
		return unavailable(err)
	default:
		return fault.Wrap(err, fault.Internal, "database_error", "an internal error; the request id finds it in the server's log")
	}
}

func unavailable(err error) error {
	return fault.Wrap(err, fault.Internal, "database_unavailable", "the database cannot be reached; try again")
}
