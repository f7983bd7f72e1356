package guestclient_test

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guestclient"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
)

// framed returns a frame with a message.
func framed(t *testing.T, typ guestwire.Type, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return guestwire.AppendFrame(nil, typ, func(out []byte) []byte { return append(out, b...) })
}

func entry(change func(*guestv1.FileEntry)) *guestv1.FileEntry {
	e := &guestv1.FileEntry{Name: []byte("a"), Type: guestv1.FileEntry_TYPE_FILE, Size: 1, Mode: 0o644, Owner: "root"}
	change(e)
	return e
}

// TestHostileEntries: names, sizes and numbers that no honest guest sends fail the call.
func TestHostileEntries(t *testing.T) {
	stat := &guestv1.FileCall{Operation: &guestv1.FileCall_Stat{Stat: &guestv1.StatFile{Path: "/a"}}}
	list := &guestv1.FileCall{Operation: &guestv1.FileCall_List{List: &guestv1.ListFiles{Path: "/", Limit: 2}}}
	remove := &guestv1.FileCall{Operation: &guestv1.FileCall_Remove{Remove: &guestv1.RemoveFile{Path: "/a"}}}
	good := entry(func(*guestv1.FileEntry) {})
	named := func(name string) *guestv1.FileEntry {
		return entry(func(e *guestv1.FileEntry) { e.Name = []byte(name) })
	}
	for name, c := range map[string]struct {
		call   *guestv1.FileCall
		answer *guestv1.FileAnswer
	}{
		"none":           {stat, &guestv1.FileAnswer{}},
		"two":            {stat, &guestv1.FileAnswer{Entries: []*guestv1.FileEntry{good, good}}},
		"more of one":    {stat, &guestv1.FileAnswer{Entries: []*guestv1.FileEntry{good}, More: true}},
		"beyond limit":   {list, &guestv1.FileAnswer{Entries: []*guestv1.FileEntry{good, good, good}}},
		"endless":        {list, &guestv1.FileAnswer{More: true}},
		"of a removal":   {remove, &guestv1.FileAnswer{Entries: []*guestv1.FileEntry{good}}},
		"no name":        {list, &guestv1.FileAnswer{Entries: []*guestv1.FileEntry{named("")}}},
		"absolute":       {list, &guestv1.FileAnswer{Entries: []*guestv1.FileEntry{named("/etc/passwd")}}},
		"parent":         {list, &guestv1.FileAnswer{Entries: []*guestv1.FileEntry{named("../x")}}},
		"parent alone":   {list, &guestv1.FileAnswer{Entries: []*guestv1.FileEntry{named("..")}}},
		"unclean":        {list, &guestv1.FileAnswer{Entries: []*guestv1.FileEntry{named("a/../b")}}},
		"NUL":            {list, &guestv1.FileAnswer{Entries: []*guestv1.FileEntry{named("a\x00b")}}},
		"long":           {list, &guestv1.FileAnswer{Entries: []*guestv1.FileEntry{named(strings.Repeat("a", 4096))}}},
		"long target":    {list, &guestv1.FileAnswer{Entries: []*guestv1.FileEntry{entry(func(e *guestv1.FileEntry) { e.Target = make([]byte, 5000) })}}},
		"long owner":     {list, &guestv1.FileAnswer{Entries: []*guestv1.FileEntry{entry(func(e *guestv1.FileEntry) { e.Owner = strings.Repeat("a", 65) })}}},
		"unknown type":   {list, &guestv1.FileAnswer{Entries: []*guestv1.FileEntry{entry(func(e *guestv1.FileEntry) { e.Type = 99 })}}},
		"negative size":  {list, &guestv1.FileAnswer{Entries: []*guestv1.FileEntry{entry(func(e *guestv1.FileEntry) { e.Size = -1 })}}},
		"mode of a type": {list, &guestv1.FileAnswer{Entries: []*guestv1.FileEntry{entry(func(e *guestv1.FileEntry) { e.Mode = 0o100644 })}}},
	} {
		_, err := hostile(t, framed(t, guestwire.Answer, c.answer)).CallFile(t.Context(), c.call)
		if fault.ReasonOf(err) != "guest_failed" {
			t.Errorf("%s: got %v, want guest_failed", name, err)
		}
	}
	answer := framed(t, guestwire.Answer, &guestv1.FileAnswer{Entries: []*guestv1.FileEntry{good, named("b\xff/c")}, More: true})
	if got, err := hostile(t, answer).CallFile(t.Context(), list); err != nil || len(got.GetEntries()) != 2 {
		t.Errorf("an honest page: got %v, %v", got, err)
	}
}

// TestEntriesAreCountedBeforeTheyAreBuilt: an answer of empty entries, which have two
// bytes each, costs the host about its own size and not a hundred times as much.
func TestEntriesAreCountedBeforeTheyAreBuilt(t *testing.T) {
	empty := strings.Repeat("\x0a\x00", 1<<20)
	// One process with empty arguments.
	arguments := string(protowire.AppendString([]byte{0x0a}, strings.Repeat("\x1a\x00", 1<<20-16)))
	commands := strings.Repeat("\x12\x00", 1<<20)
	for name, call := range map[string]func(*guestclient.Client) error{
		"list files": func(c *guestclient.Client) error {
			_, err := c.CallFile(t.Context(), &guestv1.FileCall{Operation: &guestv1.FileCall_List{List: &guestv1.ListFiles{Path: "/"}}})
			return err
		},
		"stat": func(c *guestclient.Client) error {
			_, err := c.CallFile(t.Context(), &guestv1.FileCall{Operation: &guestv1.FileCall_Stat{Stat: &guestv1.StatFile{Path: "/"}}})
			return err
		},
		"list processes": func(c *guestclient.Client) error {
			_, err := c.CallProcess(t.Context(), &guestv1.ProcessCall{Operation: &guestv1.ProcessCall_List{List: &guestv1.ListProcesses{}}})
			return err
		},
		"arguments": func(c *guestclient.Client) error {
			_, err := c.CallProcess(t.Context(), &guestv1.ProcessCall{Operation: &guestv1.ProcessCall_List{List: &guestv1.ListProcesses{}}})
			return err
		},
		"commands": func(c *guestclient.Client) error { _, err := c.CallProcess(t.Context(), listing(true)); return err },
		"commands that were not asked for": func(c *guestclient.Client) error {
			_, err := c.CallProcess(t.Context(), listing(false))
			return err
		},
		"processes of a frozen guest": func(c *guestclient.Client) error { _, err := c.QuiesceToDisk(t.Context()); return err },
		"get a process": func(c *guestclient.Client) error {
			_, err := c.CallProcess(t.Context(), &guestv1.ProcessCall{Operation: &guestv1.ProcessCall_Get{Get: &guestv1.GetProcess{Id: "p"}}})
			return err
		},
	} {
		payload := empty
		switch {
		case name == "arguments":
			payload = arguments
		case strings.HasPrefix(name, "commands"), name == "processes of a frozen guest":
			payload = commands
		}
		c := hostile(t, frame(guestwire.Answer, payload))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := call(c)
		runtime.ReadMemStats(&after)
		if fault.ReasonOf(err) != "guest_failed" {
			t.Errorf("%s: got %v, want guest_failed", name, err)
		}
		if cost := (after.TotalAlloc - before.TotalAlloc) >> 20; cost > 16 {
			t.Errorf("%s: an answer of 2 MiB cost %d MiB, want at most 16", name, cost)
		}
	}
}

// TestHostileWatch: a watch begins with one event that it is armed, and every change has
// a name below the directory.
func TestHostileWatch(t *testing.T) {
	event := func(kind guestv1.WatchFilesEvent_Kind, name string) []byte {
		return framed(t, guestwire.Event, &guestv1.WatchFilesEvent{Kind: kind, Name: []byte(name)})
	}
	ready := event(guestv1.WatchFilesEvent_KIND_READY, "")
	change := event(guestv1.WatchFilesEvent_KIND_CREATED, "a")
	for name, stream := range map[string][][]byte{
		"not ready":   {change},
		"ready twice": {ready, ready},
		"no name":     {ready, event(guestv1.WatchFilesEvent_KIND_WRITTEN, "")},
		"outside":     {ready, event(guestv1.WatchFilesEvent_KIND_WRITTEN, "../a")},
		"absolute":    {ready, event(guestv1.WatchFilesEvent_KIND_WRITTEN, "/")},
		"unknown":     {ready, event(99, "a")},
		"keepalives":  {ready, bytes.Repeat(event(0, ""), 100_000)},
	} {
		err := hostile(t, bytes.Join(stream, nil)).WatchFiles(t.Context(), &guestv1.WatchFilesCall{Path: "/"}, func(*guestv1.WatchFilesEvent) error { return nil })
		if fault.ReasonOf(err) != "guest_failed" {
			t.Errorf("%s: got %v, want guest_failed", name, err)
		}
	}
	enough := errors.New("enough")
	got := 0
	err := hostile(t, bytes.Join([][]byte{ready, change}, nil)).WatchFiles(t.Context(), &guestv1.WatchFilesCall{Path: "/"}, func(*guestv1.WatchFilesEvent) error {
		if got++; got == 2 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Errorf("an honest watch: got %v, want the error of the reader", err)
	}
}

// TestHostileParts: a part that is not the one that was asked for fails the read.
func TestHostileParts(t *testing.T) {
	asked := guestclient.ReadFile{Path: "/a", Range: &guestclient.FileRange{Offset: 10, Length: 5}}
	for name, info := range map[string]*guestv1.FileInfo{
		"other offset":  {Size: 5, Ranged: true, Offset: 9, Total: 20},
		"too long":      {Size: 6, Ranged: true, Offset: 10, Total: 20},
		"beyond":        {Size: 5, Ranged: true, Offset: 10, Total: 12},
		"offset beyond": {Size: 0, Ranged: true, Offset: 30, Total: 20},
		"unknown size":  {Size: -1, Ranged: true, Offset: 10, Total: 20},
		"huge":          {Size: 5, Ranged: true, Offset: 10, Total: 1 << 63},
		"tag":           {Size: 5, Tag: "a\r\nSet-Cookie: x"},
		"long tag":      {Size: 5, Tag: strings.Repeat("a", 65)},
	} {
		if _, err := hostile(t, framed(t, guestwire.Answer, info)).ReadFile(t.Context(), asked); fault.ReasonOf(err) != "guest_failed" {
			t.Errorf("%s: got %v, want guest_failed", name, err)
		}
	}
	unasked := framed(t, guestwire.Answer, &guestv1.FileInfo{Size: 5, Ranged: true, Total: 20})
	if _, err := hostile(t, unasked).ReadFile(t.Context(), guestclient.ReadFile{Path: "/a"}); fault.ReasonOf(err) != "guest_failed" {
		t.Errorf("a part that was not asked for: got %v, want guest_failed", err)
	}
}

// TestArchiveThatFailsAmid: the guest's reason reaches the reader in place of the end.
func TestArchiveThatFailsAmid(t *testing.T) {
	stream := bytes.Join([][]byte{
		framed(t, guestwire.Answer, &guestv1.FileInfo{Size: -1}), frame(guestwire.Data, "half of it"),
		framed(t, guestwire.Failure, &guestv1.Failure{Kind: "too_large", Reason: "archive_too_large", Message: "the archive is too large"}),
	}, nil)
	f, err := hostile(t, stream).ReadFile(t.Context(), guestclient.ReadFile{Path: "/a", Archive: true})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Body.Close()
	if got, err := io.ReadAll(f.Body); string(got) != "half of it" || fault.ReasonOf(err) != "archive_too_large" {
		t.Errorf("got %q, %v; want the half and archive_too_large", got, err)
	}
}

// TestOutdatedAgentKnowsNoFiles: an agent that hangs up at an unknown call, and answers
// otherwise, is told apart from one that has gone.
func TestOutdatedAgentKnowsNoFiles(t *testing.T) {
	for name, call := range map[string]func(*guestclient.Client) error{
		"stat": func(c *guestclient.Client) error {
			_, err := c.CallFile(t.Context(), &guestv1.FileCall{Operation: &guestv1.FileCall_Stat{Stat: &guestv1.StatFile{Path: "/"}}})
			return err
		},
		"watch": func(c *guestclient.Client) error {
			return c.WatchFiles(t.Context(), &guestv1.WatchFilesCall{Path: "/"}, func(*guestv1.WatchFilesEvent) error { return nil })
		},
		"pack": func(c *guestclient.Client) error {
			_, err := c.ReadFile(t.Context(), guestclient.ReadFile{Path: "/", Archive: true})
			return err
		},
		"unpack": func(c *guestclient.Client) error {
			_, err := c.WriteFile(t.Context(), guestclient.WriteFile{Path: "/", Archive: true}, strings.NewReader("x"))
			return err
		},
	} {
		if err := call(outdatedGuest(t)); fault.ReasonOf(err) != "files_unsupported" || !fault.Is(err, fault.Unsupported) {
			t.Errorf("%s: got %v, want files_unsupported", name, err)
		}
	}
}
