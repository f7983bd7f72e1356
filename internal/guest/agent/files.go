package agent

import (
	"context"
	"os"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guest/filesystem"
)

// CallFile does one operation on the names of the file system. ctx must come from
// Epoch.Bind; its end ends an operation on a whole tree with a part done.
func (a *Agent) CallFile(ctx context.Context, call *guestv1.FileCall) (*guestv1.FileAnswer, error) {
	actor, err := a.Actor(ctx, call.GetUser())
	if err != nil {
		return nil, err
	}
	f := fileCall{agent: a, actor: actor}
	switch op := call.GetOperation().(type) {
	case *guestv1.FileCall_List:
		return f.list(ctx, op.List)
	case *guestv1.FileCall_Stat:
		return f.stat(op.Stat)
	case *guestv1.FileCall_MakeDirectory:
		return f.makeDirectory(op.MakeDirectory)
	case *guestv1.FileCall_Move:
		return f.move(ctx, op.Move)
	case *guestv1.FileCall_Remove:
		return f.remove(ctx, op.Remove)
	default:
		return nil, fault.New(fault.Invalid, "invalid_message", "the call names no operation")
	}
}

// fileCall is one CallFile.
type fileCall struct {
	agent *Agent
	actor Actor
}

// resolve is Actor.Resolve for a path that must be given.
func (f fileCall) resolve(path string) (string, error) {
	if path == "" {
		return "", fault.New(fault.Invalid, "invalid_path", "path is required")
	}
	return f.actor.Resolve(path)
}

func (f fileCall) list(ctx context.Context, m *guestv1.ListFiles) (*guestv1.FileAnswer, error) {
	path, err := f.resolve(m.GetPath())
	if err != nil {
		return nil, err
	}
	entries, more, err := f.agent.files.Page(ctx, filesystem.PageSpec{
		Path: path, Depth: m.GetDepth(), Limit: int(min(m.GetLimit(), filesystem.MaxPage)), After: string(m.GetAfter()),
	})
	if err != nil {
		return nil, err
	}
	answer := &guestv1.FileAnswer{More: more}
	for _, e := range entries {
		answer.Entries = append(answer.Entries, fileEntry(e))
	}
	return answer, nil
}

func (f fileCall) stat(m *guestv1.StatFile) (*guestv1.FileAnswer, error) {
	path, err := f.resolve(m.GetPath())
	if err != nil {
		return nil, err
	}
	return f.describe(path, m.GetFollow())
}

// describe answers with the entry of a path.
func (f fileCall) describe(path string, follow bool) (*guestv1.FileAnswer, error) {
	info, err := f.agent.files.Info(path, follow)
	if err != nil {
		return nil, err
	}
	return &guestv1.FileAnswer{Entries: []*guestv1.FileEntry{fileEntry(info)}}, nil
}

func (f fileCall) makeDirectory(m *guestv1.MakeDirectory) (*guestv1.FileAnswer, error) {
	path, err := f.resolve(m.GetPath())
	if err != nil {
		return nil, err
	}
	mode := uint32(0o755)
	if m.Mode != nil {
		mode = *m.Mode
	}
	if mode > maxFileMode {
		return nil, fault.New(fault.Invalid, "invalid_mode", "mode must be permission bits, at most 0777")
	}
	if err := f.agent.files.MakeDirectory(path, f.actor.Owner(), os.FileMode(mode), m.GetParents()); err != nil {
		return nil, err
	}
	return f.describe(path, true)
}

func (f fileCall) move(ctx context.Context, m *guestv1.MoveFile) (*guestv1.FileAnswer, error) {
	from, err := f.resolve(m.GetFrom())
	if err != nil {
		return nil, err
	}
	to, err := f.resolve(m.GetTo())
	if err != nil {
		return nil, err
	}
	if err := f.agent.files.Rename(ctx, from, to, f.actor.Owner(), m.GetOverwrite()); err != nil {
		return nil, err
	}
	return f.describe(to, false)
}

func (f fileCall) remove(ctx context.Context, m *guestv1.RemoveFile) (*guestv1.FileAnswer, error) {
	path, err := f.resolve(m.GetPath())
	if err != nil {
		return nil, err
	}
	return &guestv1.FileAnswer{}, f.agent.files.RemovePath(ctx, path, m.GetRecursive())
}

// fileEntry returns info as a message. The values of Kind are those of the enumeration.
func fileEntry(info filesystem.Info) *guestv1.FileEntry {
	return &guestv1.FileEntry{
		Name: []byte(info.Name), Type: guestv1.FileEntry_Type(info.Kind), Size: info.Size, Mode: info.Mode,
		Owner: info.Owner, Group: info.Group, ModifiedUnixNano: info.ModifiedAt.UnixNano(), Target: []byte(info.Target),
	}
}
