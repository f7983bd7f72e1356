package rest

import (
	"cmp"
	"context"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/wrenn-dev/wrenn/api/types"
	"github.com/wrenn-dev/wrenn/internal/control/templates"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// anyTemplate stands in a path for the template of the build that follows.
const anyTemplate = "-"

// buildTemplate begins a build, and follows it if the caller asks for events.
func (s *server) buildTemplate(w http.ResponseWriter, r *http.Request) {
	req, err := readBuild(w, r)
	if err == nil {
		req.build.Name, err = s.buildName(r)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	_, b, err := s.Templates.BuildDockerfile(r.Context(), req.build, req.dockerfile, req.inputs)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	requestOf(r.Context()).effective.Store(true)
	if wantsEvents(r) {
		s.followBuild(w, r, b, 0, true)
		return
	}
	w.Header().Set("Location", "/v1/templates/"+string(b.Template)+"/builds/"+string(b.ID))
	writeJSON(w, http.StatusAccepted, buildOf(b))
}

// buildName returns the name of the template to build: that of an existing one whose id
// the path has, or the path's own.
func (s *server) buildName(r *http.Request) (string, error) {
	name, err := templateNameOf(r)
	if err != nil {
		return "", fault.New(fault.Invalid, "invalid_template",
			"the name of a template is of lower-case letters, digits, '.', '_' and '-', at most 63 characters, and not %q", uploadsName)
	}
	switch t, err := s.Templates.Get(r.Context(), name); {
	case err == nil:
		return t.Name, nil
	case !fault.Is(err, fault.NotFound):
		return "", err
	}
	return name, nil
}

// wantsEvents reports whether the caller accepts events. A HEAD would wait for their end.
func wantsEvents(r *http.Request) bool {
	return r.Method != http.MethodHead && strings.Contains(r.Header.Get("Accept"), eventStream)
}

func (s *server) listBuilds(w http.ResponseWriter, r *http.Request) {
	answerOne(s, w, r, templateNameOf, func(ctx context.Context, name string) ([]templates.Build, error) {
		t, err := s.Templates.Get(ctx, name)
		if err != nil {
			return nil, err
		}
		return s.Templates.Builds(ctx, t.ID)
	}, func(list []templates.Build) []types.TemplateBuild { return mapped(list, buildOf) })
}

// buildID is the form of a build's id.
var buildID = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// pathBuild returns the build in the request's path, which must be one of the template
// there.
func (s *server) pathBuild(r *http.Request) (templates.Build, error) {
	id := chi.URLParam(r, "build")
	notFound := fault.New(fault.NotFound, "build_not_found", "the template has no such build")
	if !buildID.MatchString(id) {
		return templates.Build{}, notFound
	}
	if chi.URLParam(r, "name") == anyTemplate {
		return s.Templates.GetBuild(r.Context(), templates.BuildID(id))
	}
	name, err := templateNameOf(r)
	if err != nil {
		return templates.Build{}, err
	}
	t, err := s.Templates.Get(r.Context(), name)
	if err != nil {
		return templates.Build{}, err
	}
	b, err := s.Templates.GetBuild(r.Context(), templates.BuildID(id))
	if err == nil && b.Template != t.ID {
		err = notFound
	}
	return b, err
}

func (s *server) getBuild(w http.ResponseWriter, r *http.Request) {
	b, err := s.pathBuild(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, buildOf(b))
}

func (s *server) cancelBuild(w http.ResponseWriter, r *http.Request) {
	b, err := s.pathBuild(r)
	if err == nil && b.Status.Ended() {
		err = fault.New(fault.WrongState, "build_ended", "the build has ended already: it is %s", b.Status)
	}
	if err == nil {
		err = s.Templates.Cancel(r.Context(), b.ID)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// defaultLogs is the number of entries of a log in an answer to a request without limit.
const defaultLogs = 1000

// getBuildLogs answers with a page of the log, or follows it.
func (s *server) getBuildLogs(w http.ResponseWriter, r *http.Request) {
	after, limit, err := readLogsQuery(r)
	var b templates.Build
	if err == nil {
		b, err = s.pathBuild(r)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if wantsEvents(r) {
		s.followBuild(w, r, b, after, false)
		return
	}
	list, err := s.Templates.Logs(r.Context(), b.ID, after, limit)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, mapped(list, logOf))
}

// readLogsQuery reads the parameters of a log. Last-Event-ID, with which a browser
// continues a stream, has precedence over after.
func readLogsQuery(r *http.Request) (after int64, limit int, err error) {
	q, err := readQuery(r)
	if err != nil {
		return 0, 0, err
	}
	if limit, err = limitIn(q); err != nil {
		return 0, 0, err
	}
	if limit == 0 {
		limit = defaultLogs
	}
	if after, err = intParam(r, "after", 0); err != nil || after < 0 {
		return 0, 0, fault.New(fault.Invalid, "invalid_after", "after must be the seq of an entry, or 0")
	}
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		if after, err = strconv.ParseInt(last, 10, 64); err != nil || after < 0 {
			return 0, 0, fault.New(fault.Invalid, "invalid_after", "Last-Event-ID must be the id of an event of this build")
		}
	}
	return after, limit, nil
}

// importStage is the stage of the progress of an import.
const importStage = "import"

// progressOf returns how far a build is, without the step. known is false before it is known.
func progressOf(b templates.Build) (p types.TemplateBuildProgress, known bool) {
	if i := b.Import; i != nil {
		return types.TemplateBuildProgress{Stage: importStage, Detail: i.Detail, Done: int(i.Done), Total: int(i.Total)}, true
	}
	return types.TemplateBuildProgress{Stage: string(b.Status), Done: b.Step, Total: b.Steps}, b.Steps > 0
}

// followBuild answers with the events of a build until it has ended. The end of the
// stream ends no build. begin sends the build first.
func (s *server) followBuild(w http.ResponseWriter, r *http.Request, b templates.Build, after int64, begin bool) {
	events := s.newEvents(w)
	defer events.pace.end()
	ctx, cancel := untilStopping(r)
	defer cancel()
	if begin {
		_ = events.event("build", -1, buildOf(b)) // the next event finds out that the caller has gone
	} else {
		_ = events.open()
	}
	stop := events.keepAlive()
	var last types.TemplateBuildProgress
	progress := func(now templates.Build, detail string) error {
		p, known := progressOf(now)
		if p == last || !known {
			return nil
		}
		last = p
		p.Detail = cmp.Or(p.Detail, detail)
		return events.event("progress", -1, p)
	}
	end, err := s.Templates.Follow(ctx, b.ID, after, func(e templates.LogEntry, now templates.Build) error {
		err := progress(now, e.Step)
		if err == nil && e.Seq > 0 {
			err = events.event("log", e.Seq, logOf(e))
		}
		return err
	})
	stop()
	if err == nil {
		err = progress(end, "")
	}
	if err == nil {
		err = events.event("result", -1, buildOf(end))
	} else {
		err = withCause(ctx, err)
		_ = events.event("error", -1, errorJSON{errorBodyOf(err)})
	}
	recordError(r.Context(), err)
}
