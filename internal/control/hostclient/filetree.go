package hostclient

import (
	"context"

	"connectrpc.com/connect"

	hostv1 "github.com/wrenn-dev/wrenn/api/gen/host/v1"
	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// CallFile implements control.Host.
func (c *Client) CallFile(ctx context.Context, ref sandbox.Ref, call control.FileCall) (control.FilePage, error) {
	res, err := c.rpc.CallFile(ctx, connect.NewRequest(&hostv1.CallFileRequest{Ref: refToProto(ref), Call: fileCall(call)}))
	if err != nil {
		return control.FilePage{}, faultOf(ctx, err)
	}
	answer := res.Msg.GetAnswer()
	page := control.FilePage{More: answer.GetMore()}
	for _, e := range answer.GetEntries() {
		page.Entries = append(page.Entries, fileEntry(e))
	}
	switch call.(type) {
	case control.FileStat, control.FileMakeDir, control.FileMove:
		if len(page.Entries) != 1 {
			return control.FilePage{}, broken("the description of the file is missing")
		}
	}
	return page, nil
}

// fileCall returns call as a message.
func fileCall(call control.FileCall) *guestv1.FileCall {
	switch c := call.(type) {
	case control.FileStat:
		return &guestv1.FileCall{Operation: &guestv1.FileCall_Stat{Stat: &guestv1.StatFile{Path: c.Path, Follow: c.Follow}}}
	case control.FileMakeDir:
		dir := &guestv1.MakeDirectory{Path: c.Path, Parents: c.Parents, Mode: c.Mode}
		return &guestv1.FileCall{Operation: &guestv1.FileCall_MakeDirectory{MakeDirectory: dir}, User: c.User}
	case control.FileMove:
		move := &guestv1.MoveFile{From: c.From, To: c.To, Overwrite: c.Overwrite}
		return &guestv1.FileCall{Operation: &guestv1.FileCall_Move{Move: move}, User: c.User}
	case control.FileRemove:
		remove := &guestv1.RemoveFile{Path: c.Path, Recursive: c.Recursive}
		return &guestv1.FileCall{Operation: &guestv1.FileCall_Remove{Remove: remove}}
	case control.FileList:
		list := &guestv1.ListFiles{Path: c.Path, Depth: uint32(max(c.Depth, 1)), Limit: uint32(max(c.Limit, 0)), After: []byte(c.After)}
		return &guestv1.FileCall{Operation: &guestv1.FileCall_List{List: list}}
	default:
		return &guestv1.FileCall{}
	}
}

// fileTypes are the types of files in the words of the API.
var fileTypes = map[guestv1.FileEntry_Type]control.FileType{
	guestv1.FileEntry_TYPE_FILE: control.FileRegular, guestv1.FileEntry_TYPE_DIRECTORY: control.FileDirectory,
	guestv1.FileEntry_TYPE_SYMLINK: control.FileSymlink, guestv1.FileEntry_TYPE_FIFO: control.FileFIFO,
	guestv1.FileEntry_TYPE_SOCKET: control.FileSocket, guestv1.FileEntry_TYPE_DEVICE: control.FileDevice,
}

// fileEntry converts an entry of the guest.
func fileEntry(e *guestv1.FileEntry) control.FileEntry {
	typ, known := fileTypes[e.GetType()]
	if !known {
		typ = control.FileDevice
	}
	return control.FileEntry{
		Name: string(e.GetName()), Type: typ, Size: e.GetSize(), Mode: e.GetMode() & 0o7777,
		Owner: e.GetOwner(), Group: e.GetGroup(), ModifiedAt: guestTime(e.GetModifiedUnixNano()), Target: string(e.GetTarget()),
	}
}
