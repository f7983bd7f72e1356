package agent

import (
	"context"
	"os"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guest/filesystem"
)

// basePath is the PATH of commands unless the sandbox or the call sets another.
const basePath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// maxFileMode is the largest mode of a written file: permission bits only.
const maxFileMode = 0o777

// Actor is the user on whose behalf a call works, with the defaults of its
// epoch.
type Actor struct {
	filesystem.User
	settings *Settings
	named    bool // the call named the user
}

// Actor finds the user called name, or the default user for an empty name. ctx
// must come from Epoch.Bind. An unknown name is Unauthenticated unknown_user.
func (a *Agent) Actor(ctx context.Context, name string) (Actor, error) {
	e := EpochOf(ctx)
	named := name != ""
	if !named {
		name = e.DefaultUser
	}
	u, err := a.accounts.Lookup(name)
	return Actor{u, &e.Settings, named}, err
}

// bases are the directories that the actor's paths start from. The default
// directory belongs to the whole sandbox.
func (w Actor) bases() filesystem.Bases {
	return filesystem.Bases{Home: w.Home, Default: w.settings.DefaultDir}
}

// Resolve returns the absolute path that path means to the actor.
func (w Actor) Resolve(path string) (string, error) { return filesystem.Resolve(path, w.bases()) }

// resolveFile is Resolve for a path that must name a file.
func (w Actor) resolveFile(path string) (string, error) {
	return filesystem.ResolveFile(path, w.bases())
}

// Owner returns the owner of the files that the actor makes.
func (w Actor) Owner() filesystem.Owner { return filesystem.Owner{UID: w.UID, GID: w.GID} }

// FileToWrite returns the file at path as the actor writes it: owned by the actor
// if it is new or if the call named the user. A nil mode is the default.
func (w Actor) FileToWrite(path string, mode *uint32) (filesystem.Write, error) {
	if path == "" {
		return filesystem.Write{}, fault.New(fault.Invalid, "invalid_path", "path is required")
	}
	if mode != nil && *mode > maxFileMode {
		return filesystem.Write{}, fault.New(fault.Invalid, "invalid_mode", "mode must be permission bits, at most 0777")
	}
	path, err := w.resolveFile(path)
	return filesystem.Write{Path: path, Owner: w.Owner(), Chown: w.named, Mode: mode}, err
}

// workdir returns the directory in which a command starts: cwd if given, else
// the default directory, else the root directory if the image has no such
// directory.
func (w Actor) workdir(cwd *string) (string, error) {
	if cwd != nil && *cwd != "" {
		return w.Resolve(*cwd)
	}
	dir, err := w.Resolve("")
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
func (w Actor) environ(own map[string]string) []string {
	merged := map[string]string{
		"PATH": basePath, "HOME": w.Home, "USER": w.Name, "LOGNAME": w.Name,
	}
	if w.Shell != "" {
		merged["SHELL"] = w.Shell
	}
	for k, v := range w.settings.Envs {
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
