package control

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// holdRetry is the pause before a server takes its lock again.
const holdRetry = time.Second

// presence shows the other servers of the database that this server is live, and
// finds out which of the others are.
type presence struct {
	store  presenceStore
	log    *slog.Logger
	server ServerID
}

// presenceStore is the part of [Store] that presence needs.
type presenceStore interface {
	HoldServer(ctx context.Context, id ServerID, held func()) error
	LiveServers(ctx context.Context, ids []ServerID) ([]ServerID, error)
}

// run shows the other servers of the database that this server is live,
// until ctx ends. It calls ready once, as soon as they can see it.
func (p *presence) run(ctx context.Context, ready func()) {
	var once sync.Once
	for ctx.Err() == nil {
		err := p.store.HoldServer(ctx, p.server, func() {
			p.log.Debug("present in the database", "server", p.server)
			once.Do(ready)
		})
		if ctx.Err() == nil {
			p.log.Debug("not present in the database, will try again", "error", err)
			sleep(ctx, holdRetry)
		}
	}
}

// finishedOperations returns which of the rows are in between without an operation
// that could explain it. busy holds the results of inFlight.all from before and
// after the rows were read; the host must be asked afterwards, so that its answer
// is younger than the end of the operation.
func (p *presence) finishedOperations(ctx context.Context, rows []Sandbox, busy map[sandbox.ID]bool) (map[sandbox.ID]bool, error) {
	over := make(map[sandbox.ID]bool)
	others := make(map[ServerID][]sandbox.ID)
	for _, row := range rows {
		switch {
		case !transitional(row.State) || row.Server == 0:
		case row.Server != p.server:
			others[row.Server] = append(others[row.Server], row.ID)
		case !busy[row.ID]:
			over[row.ID] = true
		}
	}
	if len(others) == 0 {
		return over, nil
	}
	asked := make([]ServerID, 0, len(others))
	for id := range others {
		asked = append(asked, id)
	}
	live, err := p.store.LiveServers(ctx, asked)
	if err != nil {
		return nil, err
	}
	for _, id := range live {
		delete(others, id)
	}
	for _, ids := range others {
		for _, id := range ids {
			over[id] = true
		}
	}
	return over, nil
}
