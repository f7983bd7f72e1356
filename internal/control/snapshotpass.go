package control

import (
	"context"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// snapshotPass compares all snapshots of one host once and does what
// settleSnapshot says. Rows are read before the host is asked, as in pass.
func (s *Service) snapshotPass(ctx context.Context, host Host, hostID string, open *snapshotDisputes) error {
	readCtx, cancel := context.WithTimeout(ctx, 2*s.cfg.AskTimeout)
	defer cancel()
	pairs, err := s.snapshotPairs(readCtx, host, hostID)
	if err != nil {
		return err
	}
	lasting := open.next(pairs, time.Now())
	slots := make(chan struct{}, maxAtOnce)
	var wg sync.WaitGroup
	for i, p := range pairs {
		act := settleSnapshot(p.row, p.view, lasting[i])
		if act == snapNone && !remeasured(p) {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := fault.Caught(func() error { return s.applySnapshot(ctx, host, p, act) }); err != nil {
				s.log.Warn("disagreement about a snapshot not settled, will try again", "snapshot", p.id(), "error", err)
			}
		})
	}
	wg.Wait()
	return nil
}

func (s *Service) snapshotPairs(ctx context.Context, host Host, hostID string) ([]snapshotPair, error) {
	rows, err := s.store.SnapshotsOf(ctx, hostID)
	if err != nil {
		return nil, err
	}
	views, err := host.Snapshots(ctx)
	if err != nil {
		return nil, err
	}
	viewOf := make(map[sandbox.SnapshotID]*SnapshotView, len(views))
	for i, v := range views {
		if !v.Deleted {
			viewOf[v.ID] = &views[i]
		}
	}
	pairs := make([]snapshotPair, 0, len(rows))
	for i := range rows {
		pairs = append(pairs, snapshotPair{row: &rows[i], view: viewOf[rows[i].ID]})
		delete(viewOf, rows[i].ID)
	}
	for _, view := range viewOf {
		pairs = append(pairs, snapshotPair{view: view})
	}
	return pairs, nil
}

// remeasured reports whether the host now says another size or number of users.
func remeasured(p snapshotPair) bool {
	return p.row != nil && p.view != nil && (p.row.Bytes != p.view.Bytes || p.row.Users != p.view.Users)
}

// applySnapshot does what settleSnapshot decided about p.
func (s *Service) applySnapshot(ctx context.Context, host Host, p snapshotPair, act snapshotAct) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.DestroyTimeout)
	defer cancel()
	switch act {
	case snapReady, snapFail:
		m := SnapshotMove{ID: p.row.ID, From: []SnapshotStatus{p.row.Status}, To: SnapshotReady, View: p.view}
		if act == snapFail {
			m.To = SnapshotError
		}
		_, _, err := s.store.MoveSnapshot(ctx, m)
		return err
	case snapDelete:
		if err := host.DeleteSnapshot(ctx, p.id()); err != nil || p.row == nil {
			return err
		}
		return s.store.RemoveSnapshot(ctx, p.id())
	case snapRemove:
		return s.store.RemoveSnapshot(ctx, p.id())
	default:
		return s.store.MeasureSnapshot(ctx, *p.view)
	}
}
