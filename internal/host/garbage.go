package host

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/snapshot"
)

// CollectGarbage removes unreferenced images, snapshots and builds and returns them; a dry
// run only returns them. The base of a sandbox or warm clone is never garbage.
func (m *Manager) CollectGarbage(ctx context.Context, dryRun bool) ([]snapshot.Garbage, error) {
	// Images go first: the template snapshot of one that is gone is of no use.
	images, err := m.collectImages(ctx, dryRun)
	found, more := m.snapshots.Collect(ctx, dryRun)
	return append(images, found...), errors.Join(err, more)
}

// collectSoon collects garbage in the background.
func (m *Manager) collectSoon() {
	m.running.Go(func() {
		err := fault.Caught(func() error {
			_, err := m.CollectGarbage(m.life, false)
			return err
		})
		if err != nil && m.life.Err() == nil {
			m.log.Warn("could not remove everything that an old build of the VMM was kept for", "error", err)
		}
	})
}

// collectAtStart removes the files that an earlier agent left, ephemeral
// snapshots and half-made templates among them. It may be called again later.
func (m *Manager) collectAtStart(ctx context.Context) error {
	var errs []error
	for _, dir := range m.leftovers.ephemeral {
		err := os.WriteFile(dir.Deleted(), nil, 0o600)
		if !errors.Is(err, os.ErrNotExist) { // it is gone: collected, or deleted meanwhile
			errs = append(errs, err)
		}
	}
	_, err := m.CollectGarbage(ctx, false)
	errs = append(errs, err)
	for name := range m.leftovers.builds {
		errs = append(errs, os.RemoveAll(filepath.Join(m.layout.builds(), name)))
	}
	return errors.Join(errs...)
}
