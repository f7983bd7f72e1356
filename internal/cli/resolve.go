package cli

import (
	"context"
	"iter"
	"net/http"
	"regexp"
	"strings"

	"github.com/wrenn-dev/wrenn/client"
)

// resolver returns the id that a person means by typed: an id, the unique beginning
// of an id, or a name. It returns typed unchanged if it matches nothing, so that the
// server refuses it.
type resolver func(ctx context.Context, typed string) (string, error)

const (
	idLength   = 20
	idLetters  = "abcdefghijklmnopqrstuvwxyz0123456789"
	maxMatches = 5 // shown for an ambiguous beginning
)

// nameForm is the form of a sandbox's name. Other arguments are not looked up.
var nameForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$`)

func isID(s string) bool { return len(s) == idLength && strings.Trim(s, idLetters) == "" }

// sandboxID resolves a sandbox. Only sandboxes that have not ended have a name. A
// complete id costs no request.
func (a *App) sandboxID(ctx context.Context, typed string) (string, error) {
	id, err := a.resolveSandbox(ctx, typed)
	if err == nil {
		a.subject = id
	}
	return id, err
}

func (a *App) resolveSandbox(ctx context.Context, typed string) (string, error) {
	if isID(typed) || !nameForm.MatchString(typed) {
		return typed, nil
	}
	c := a.Client()
	named, err := c.List(ctx, client.ListOptions{Name: typed, Status: live, Limit: 1})
	if err != nil {
		return "", err
	}
	if len(named.Sandboxes) > 0 {
		return named.Sandboxes[0].ID, nil
	}
	if strings.Trim(typed, idLetters) != "" { // no id begins like that
		return "", &client.Error{Status: http.StatusNotFound, Code: "sandbox_not_found", Message: "no running or paused sandbox has the name " + typed}
	}
	return byBeginning(typed, "sandboxes", func(yield func(string, error) bool) {
		for sb, err := range c.All(ctx, client.ListOptions{}) {
			if !yield(sb.ID, err) {
				return
			}
		}
	})
}

// snapshotID resolves a snapshot. Empty is none.
func (a *App) snapshotID(ctx context.Context, typed string) (string, error) {
	if typed == "" || isID(typed) {
		return typed, nil
	}
	named, err := a.Client().ListSnapshots(ctx, client.SnapshotOptions{Name: typed, Limit: maxMatches})
	if err != nil {
		return "", err
	}
	switch len(named.Snapshots) {
	case 0:
	case 1:
		return named.Snapshots[0].ID, nil
	default:
		var ids []string
		for _, snap := range named.Snapshots {
			ids = append(ids, snap.ID)
		}
		return "", ambiguous(typed, "snapshots", ids)
	}
	return byBeginning(typed, "snapshots", func(yield func(string, error) bool) {
		for snap, err := range a.Client().AllSnapshots(ctx, client.SnapshotOptions{}) {
			if !yield(snap.ID, err) {
				return
			}
		}
	})
}

// byBeginning returns the only id that begins with typed, or typed if none does.
func byBeginning(typed, what string, ids iter.Seq2[string, error]) (string, error) {
	if strings.Trim(typed, idLetters) != "" {
		return typed, nil
	}
	var found []string
	for id, err := range ids {
		switch {
		case err != nil:
			return "", err
		case id == typed:
			return id, nil
		case strings.HasPrefix(id, typed):
			found = append(found, id)
		}
	}
	switch len(found) {
	case 0:
		return typed, nil
	case 1:
		return found[0], nil
	}
	return "", ambiguous(typed, what, found)
}

func ambiguous(typed, what string, ids []string) error {
	more := ""
	if len(ids) > maxMatches {
		ids, more = ids[:maxMatches], ", ..."
	}
	return &Failure{Message: typed + " names several " + what + ": " + strings.Join(ids, ", ") + more,
		Hint: "type more of the id, or all of it"}
}
