package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/postgres/db"
)

// HoldServer implements control.Store. The server is live while a session of
// its own holds an advisory lock: the database frees the lock as soon as the
// process has ended, however it ended.
func (s *Store) HoldServer(ctx context.Context, id control.ServerID, held func()) error {
	conn, err := pgx.ConnectConfig(ctx, s.pool.Config().ConnConfig)
	if err != nil {
		return faultOf(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if err := db.New(conn).LockServer(ctx, int64(id)); err != nil {
		return faultOf(err)
	}
	held()
	// Nobody notifies this session: the wait ends with ctx or with the session.
	if _, err = conn.WaitForNotification(ctx); err == nil {
		err = errors.New("an unexpected notification")
	}
	// The cause of this session's end has mostly ended the idle ones of the
	// pool too, each of which would fail a caller's query.
	s.pool.Reset()
	return faultOf(err)
}

// LiveServers implements control.Store.
func (s *Store) LiveServers(ctx context.Context, ids []control.ServerID) ([]control.ServerID, error) {
	asked := make([]int64, len(ids))
	for i, id := range ids {
		asked[i] = int64(id)
	}
	found, err := s.q.LiveServers(ctx, asked)
	if err != nil {
		return nil, faultOf(err)
	}
	live := make([]control.ServerID, len(found))
	for i, id := range found {
		live[i] = control.ServerID(id)
	}
	return live, nil
}
