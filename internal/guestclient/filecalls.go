package guestclient

import (
	"bytes"
	"context"
	"path"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
)

// Bounds on the entries that a guest may send. An honest guest stays below all of them.
const (
	maxEntries    = 5000
	maxNameBytes  = 4095
	maxOwnerBytes = 64
	// maxFileAnswer bounds an answer with a page of entries, in bytes.
	maxFileAnswer = 2 << 20
	// maxEntryBytes bounds an encoded entry, in bytes.
	maxEntryBytes = 16 << 10
)

// CallFile does one operation on the names of the guest's file system. It waits as long
// as the operation does. A guest whose answer breaks the protocol is HostFailed
// guest_failed; an agent of a version without these operations is Unsupported
// files_unsupported.
func (c *Client) CallFile(ctx context.Context, call *guestv1.FileCall) (*guestv1.FileAnswer, error) {
	answer, err := c.callFile(ctx, call)
	return answer, c.orUnsupported(ctx, err)
}

func (c *Client) callFile(ctx context.Context, call *guestv1.FileCall) (*guestv1.FileAnswer, error) {
	x, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	if err := x.call(guestwire.File, call); err != nil {
		return nil, err
	}
	answer := &guestv1.FileAnswer{}
	bounds := fileBounds(call)
	t, payload, err := x.conn.reader.Frame(bounds.size)
	switch {
	case err != nil:
		return nil, x.fail(err)
	case t == guestwire.Failure:
		return nil, x.failure(payload)
	case t != guestwire.Answer || !bounds.hold(payload) || decode(payload, answer) != nil || !plainAnswer(call, answer):
		return nil, x.fail(errDisorder)
	}
	x.finish(true)
	return answer, nil
}

// orUnsupported returns err, or Unsupported if the guest hung up because it does not
// know the operations on files.
func (c *Client) orUnsupported(ctx context.Context, err error) error {
	if fault.ReasonOf(err) != ReasonUnreachable {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, outdatedTimeout)
	defer cancel()
	if c.Ping(ctx) != nil {
		return err
	}
	root := &guestv1.FileCall{Operation: &guestv1.FileCall_Stat{Stat: &guestv1.StatFile{Path: "/"}}}
	if _, again := c.callFile(ctx, root); fault.ReasonOf(again) != ReasonUnreachable {
		return err
	}
	return fault.Wrap(err, fault.Unsupported, "files_unsupported",
		"the agent in the sandbox is of a version without this operation on files; create the sandbox anew")
}

// plainAnswer reports whether answer may be an honest guest's to call.
func plainAnswer(call *guestv1.FileCall, answer *guestv1.FileAnswer) bool {
	entries := answer.GetEntries()
	switch call.GetOperation().(type) {
	case *guestv1.FileCall_List:
		if answer.GetMore() && len(entries) == 0 {
			return false
		}
	case *guestv1.FileCall_Remove:
		return len(entries) == 0 && !answer.GetMore()
	default:
		if len(entries) != 1 || answer.GetMore() {
			return false
		}
	}
	for _, e := range entries {
		if !plainEntry(e) {
			return false
		}
	}
	return true
}

// plainEntry reports whether e may come from an honest guest.
func plainEntry(e *guestv1.FileEntry) bool {
	_, known := guestv1.FileEntry_Type_name[int32(e.GetType())]
	return known && e.GetType() != guestv1.FileEntry_TYPE_UNSPECIFIED && e.GetSize() >= 0 && e.GetMode() <= 0o7777 &&
		len(e.GetOwner()) <= maxOwnerBytes && len(e.GetGroup()) <= maxOwnerBytes &&
		plainName(e.GetName()) && len(e.GetTarget()) <= maxNameBytes
}

// plainName reports whether name may be the relative name of a file, or "/".
func plainName(name []byte) bool {
	s := string(name)
	return s == "/" || s != "" && len(s) <= maxNameBytes && !bytes.ContainsRune(name, 0) &&
		s[0] != '/' && path.Clean(s) == s && s != ".." && !bytes.HasPrefix(name, []byte("../"))
}
