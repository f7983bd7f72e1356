package main

import (
	"context"
	"log/slog"

	"github.com/wrenn-dev/wrenn/internal/daemon"
)

// spaceKeepers returns the components that keep space on a full disk. One reserves a
// ballast for the database and the journals. The other guards a data file system that
// is in a file against promising more space than the disk below it has.
func spaceKeepers(dirs layout, log *slog.Logger) ([]daemon.Component, error) {
	parts := []daemon.Component{unawaited("ballast", func(ctx context.Context) error { return dirs.ballast().Keep(ctx, log) })}
	place := dirs.dataFS()
	exists, err := place.Exists()
	if err != nil || !exists {
		return parts, err
	}
	return append(parts, unawaited("data space", func(ctx context.Context) error { return place.Guard(ctx, log) })), nil
}

// unawaited is a component whose start the others do not await.
func unawaited(name string, run func(context.Context) error) daemon.Component {
	return daemon.Component{Name: name, Run: func(ctx context.Context, ready func()) error {
		ready()
		return run(ctx)
	}}
}
