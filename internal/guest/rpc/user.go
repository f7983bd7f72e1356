package rpc

import (
	"context"
	"encoding/base64"
	"net/http"
	"os"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guest/filesystem"
)

// basePath is where commands are found when nobody says otherwise.
const basePath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// actor is the user on whose behalf a call works, with the defaults of its
// epoch.
type actor struct {
	filesystem.User
	settings *settings
}

// actorNamed finds the user called name, or the default user for none.
func (s *Server) actorNamed(ctx context.Context, name string) (actor, error) {
	e := epochOf(ctx)
	if name == "" {
		name = e.DefaultUser
	}
	u, err := s.accounts.Lookup(name)
	return actor{u, &e.settings}, err
}

// actorOf finds the user of an RPC: the name in HTTP basic authentication,
// whose password is not looked at, or the default user.
func (s *Server) actorOf(ctx context.Context, h http.Header) (actor, error) {
	name, err := basicUser(h.Get("Authorization"))
	if err != nil {
		return actor{}, err
	}
	return s.actorNamed(ctx, name)
}

// basicUser returns the user name in a header of RFC 7617. Another scheme is
// somebody else's business and counts as none.
func basicUser(header string) (string, error) {
	scheme, encoded, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "basic") {
		return "", nil
	}
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
	if err != nil {
		return "", fault.Wrap(err, fault.Unauthenticated, "invalid_authorization", "the Authorization header is malformed")
	}
	name, _, _ := strings.Cut(string(b), ":")
	return name, nil
}

// bases are the directories that the actor's paths start from. The default
// directory belongs to the whole sandbox.
func (a actor) bases() filesystem.Bases {
	return filesystem.Bases{Home: a.Home, Default: a.settings.DefaultDir}
}

func (a actor) resolve(path string) (string, error) { return filesystem.Resolve(path, a.bases()) }

// resolveFile is resolve for a path that must name a file.
func (a actor) resolveFile(path string) (string, error) {
	return filesystem.ResolveFile(path, a.bases())
}

func (a actor) owner() filesystem.Owner { return filesystem.Owner{UID: a.UID, GID: a.GID} }

// workdir returns where a command starts: cwd if given, else the default
// directory, else the root directory where an image has no such.
func (a actor) workdir(cwd *string) (string, error) {
	if cwd != nil && *cwd != "" {
		return a.resolve(*cwd)
	}
	dir, err := a.resolve("")
	if err != nil {
		return "", err
	}
	if fi, err := os.Stat(dir); err != nil || !fi.IsDir() {
		return "/", nil
	}
	return dir, nil
}

// environ builds a command's environment: the base, then the sandbox's, then
// the command's own; later ones win.
func (a actor) environ(own map[string]string) []string {
	merged := map[string]string{
		"PATH": basePath, "HOME": a.Home, "USER": a.Name, "LOGNAME": a.Name,
	}
	if a.Shell != "" {
		merged["SHELL"] = a.Shell
	}
	for k, v := range a.settings.Envs {
		merged[k] = v
	}
	for k, v := range own {
		merged[k] = v
	}
	env := make([]string, 0, len(merged))
	for k, v := range merged {
		env = append(env, k+"="+v)
	}
	return env
}
