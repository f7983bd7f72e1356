package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
)

// BuildEvent is one event of a build. One field is set, except in the last event.
type BuildEvent struct {
	Log      *TemplateBuildLog
	Progress *TemplateBuildProgress
	// Build is the build at the end.
	Build *TemplateBuild
}

// BuildStream reads the events of a build. One goroutine uses it; Close may be called from
// any.
type BuildStream struct {
	*sentEvents
	ended bool
}

// FollowBuild reads the log of a build, from the entry after seq on, until the build has
// ended. The end of ctx ends the reader and not the build.
func (c *Client) FollowBuild(ctx context.Context, name, build string, seq int64) (*BuildStream, error) {
	path, err := templatePath(name, "builds", build, "logs")
	if err != nil {
		return nil, err
	}
	q := url.Values{"after": {strconv.FormatInt(seq, 10)}}
	events, err := c.openEvents(ctx, request{method: http.MethodGet, path: path, query: q})
	if err != nil {
		return nil, err
	}
	return &BuildStream{sentEvents: events}, nil
}

// Next returns the next event; after the one with the build it returns io.EOF. After another
// error the build continues, and FollowBuild can begin again after the last entry.
func (s *BuildStream) Next() (*BuildEvent, error) {
	if s.ended {
		return nil, io.EOF
	}
	for {
		name, data, err := s.next()
		if err != nil {
			return nil, fmt.Errorf("client: the stream broke off before the build ended: %w", err)
		}
		var event BuildEvent
		switch name {
		case "log":
			event.Log = new(TemplateBuildLog)
			err = json.Unmarshal(data, event.Log)
		case "progress":
			event.Progress = new(TemplateBuildProgress)
			err = json.Unmarshal(data, event.Progress)
		case "result":
			event.Build = new(TemplateBuild)
			s.ended, err = true, json.Unmarshal(data, event.Build)
		case "error":
			return nil, s.failure(data)
		default: // of a later server
			continue
		}
		if err != nil {
			return nil, badEvent(err)
		}
		return &event, nil
	}
}
