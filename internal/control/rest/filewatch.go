package rest

import (
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/wrenn-dev/wrenn/api/types"
	"github.com/wrenn-dev/wrenn/internal/control"
)

// watchFiles streams the changes in a directory as server-sent events. A failure before
// the watch is armed is an ordinary error response.
func (s *server) watchFiles(w http.ResponseWriter, r *http.Request) {
	id, err := idOf(r)
	var watch control.FileWatch
	if err == nil {
		watch, err = readWatch(r)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	events := s.newEvents(w)
	defer events.pace.end()
	ctx, cancel := untilStopping(r)
	defer cancel()
	stop := events.keepAlive()
	err = s.Sandboxes.WatchFiles(ctx, id, watch, func(e control.FileEvent) error {
		return events.change(watch, e)
	})
	stop()
	if !events.begun {
		s.fail(w, r, withCause(ctx, err))
		return
	}
	err = withCause(ctx, err)
	_ = events.event("error", -1, errorJSON{errorBodyOf(err)})
	recordError(r.Context(), err)
}

func readWatch(r *http.Request) (control.FileWatch, error) {
	var watch control.FileWatch
	q, err := readQuery(r)
	if err != nil {
		return watch, err
	}
	if watch.Path, err = one(q, "path"); err != nil {
		return watch, err
	}
	watch.Recursive, err = flagIn(url.Values(q), "recursive")
	return watch, err
}

// change sends one event of a watch.
func (e *eventStreamer) change(watch control.FileWatch, event control.FileEvent) error {
	switch event.Type {
	case control.FileWatchReady, control.FileWatchOverflow:
		return e.event(string(event.Type), -1, struct{}{})
	}
	return e.event("change", -1, types.FileChange{
		Type: string(event.Type), Path: strings.ToValidUTF8(path.Join(watch.Path, event.Name), "\uFFFD"),
	})
}
