package postgres

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// SQLSTATE codes that the store distinguishes (PostgreSQL manual, appendix A).
const uniqueViolation = "23505"

// transient are the codes, and the classes (two characters), of failures that
// are the server's and not the statement's. The same statement can succeed
// later.
var transient = []string{
	"08",    // connection lost
	"25006", // read-only: a standby, or a server that was made one
	"40",    // rolled back by a deadlock or a conflict
	"53",    // disk full, out of memory, too many connections
	"55P03", // a lock could not be had in time
	"57",    // shutdown, crash recovery, cancelled
	"58",    // the server's own input and output
}

// liveNames is the unique index on the names of sandboxes that have not ended.
const liveNames = "sandboxes_live_name"

// faultOf classifies an error of the database. Faults and nil pass through. The
// caller has already handled missing rows.
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
	case errors.Is(err, context.Canceled):
		return fault.As(err)
	case errors.As(err, &connecting):
		// Before the deadline: connecting has one of its own.
		return unavailable(err)
	case errors.Is(err, context.DeadlineExceeded):
		return fault.As(err)
	case !errors.As(err, &answer):
		// The server did not answer: the connection broke.
		return unavailable(err)
	case answer.Code == uniqueViolation && answer.ConstraintName == liveNames:
		return fault.Wrap(err, fault.Exists, control.ReasonNameTaken,
			"another sandbox that has not ended has this name; choose another name, or destroy that sandbox first")
	case answer.Code == uniqueViolation:
		return fault.Wrap(err, fault.Exists, "exists", "it exists already")
	case slices.ContainsFunc(transient, func(code string) bool { return strings.HasPrefix(answer.Code, code) }):
		return unavailable(err)
	default:
		return fault.Wrap(err, fault.Internal, "database_error", "an internal error; the request id finds it in the server's log")
	}
}

// reasonUnavailable is the reason of every failure that is the server's.
const reasonUnavailable = "database_unavailable"

func unavailable(err error) error {
	return fault.Wrap(err, fault.Unavailable, reasonUnavailable,
		"the database cannot be used at the moment; try again in a few seconds")
}
