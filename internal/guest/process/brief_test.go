package process

import (
	"context"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// recorded returns the commands of the records of table.
func recorded(table *Table) (out []string) {
	for _, b := range table.Briefs() {
		out = append(out, strings.Join(append([]string{b.Cmd}, b.Args...), " "))
	}
	return out
}

// TestCommandsAreRecorded: the table keeps a record of each command without an ID, from its
// start, and with its outcome.
func TestCommandsAreRecorded(t *testing.T) {
	table := newTable(t)
	dir := t.TempDir()
	sleeps := command(dir, "sleep", "1000")
	sleeps.Label.User = "user"
	first, _ := start(t, table, sleeps)
	if got := table.Briefs(); len(got) != 1 || !got[0].Ended.IsZero() || got[0].User != "user" || !got[0].Started.Equal(first.StartedAt()) {
		t.Fatalf("records of a running command: %+v", got)
	}
	fails, _ := start(t, table, command(dir, "sh", "-c", "exit 3"))
	<-fails.Ended()
	named := command(dir, "true")
	named.ID = "named"
	hidden := command(dir, "true")
	hidden.Unrecorded = true
	for _, spec := range []Spec{named, hidden} {
		p, _ := start(t, table, spec)
		<-p.Ended()
	}
	if err := first.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-first.Ended()
	if got, want := recorded(table), []string{"sleep 1000", "sh -c exit 3"}; !slices.Equal(got, want) {
		t.Fatalf("recorded %q, want %q", got, want)
	}
	got := table.Briefs()
	if got[0].Exit.Signal != syscall.SIGKILL || !got[0].Ended.Equal(first.ExitedAt()) || got[1].Exit.Code != 3 || got[1].Ended.IsZero() {
		t.Errorf("records after the ends: %+v", got)
	}
}

// TestRecordsOfAnotherSandboxAreDropped: only commands that run stay recorded.
func TestRecordsOfAnotherSandboxAreDropped(t *testing.T) {
	table := newTable(t)
	dir := t.TempDir()
	ended, _ := start(t, table, command(dir, "true"))
	<-ended.Ended()
	start(t, table, command(dir, "sleep", "1000"))
	table.DropBriefs()
	if got, want := recorded(table), []string{"sleep 1000"}; !slices.Equal(got, want) {
		t.Errorf("recorded %q, want %q", got, want)
	}
	if table.briefs.bytes != table.briefs.list[0].bytes {
		t.Errorf("the records count as %d bytes, want %d", table.briefs.bytes, table.briefs.list[0].bytes)
	}
}

// TestBriefsAreBounded: the newest records stay, within the limits on number and memory.
func TestBriefsAreBounded(t *testing.T) {
	var small, large briefs
	for i := range 3 * MaxBriefs {
		spec := Spec{Cmd: "c", Args: []string{strings.Repeat("a", i)}}
		small.add(newBrief(&Spec{Cmd: "c"}, time.Unix(int64(i), 0)))
		large.add(newBrief(&spec, time.Unix(int64(i), 0)))
	}
	for name, r := range map[string]*briefs{"small": &small, "large": &large} {
		all, sum := r.all(), 0
		for _, b := range r.list {
			sum += b.bytes
		}
		if len(all) > MaxBriefs || len(all) < MaxBriefs/4 || sum != r.bytes || sum > maxBriefBytes {
			t.Errorf("%s: %d records of %d bytes, counted as %d", name, len(all), sum, r.bytes)
		}
		if last := all[len(all)-1].Started.Unix(); last != 3*MaxBriefs-1 || all[0].Started.Unix() != last-int64(len(all))+1 {
			t.Errorf("%s: the records are those from %d to %d, want the newest", name, all[0].Started.Unix(), last)
		}
	}
	if len(small.list) != MaxBriefs {
		t.Errorf("%d small records, want %d", len(small.list), MaxBriefs)
	}
}

// TestBriefsAreShort: a record holds the beginning of a long command.
func TestBriefsAreShort(t *testing.T) {
	long := strings.Repeat("é", 100_000)
	for name, c := range map[string]struct {
		spec Spec
		args int
		cut  bool
	}{
		"short":              {Spec{Cmd: "a", Args: []string{"b", ""}}, 2, false},
		"a long command":     {Spec{Cmd: long, Label: Label{User: long}}, 0, false},
		"a long argument":    {Spec{Cmd: "sh", Args: []string{"-c", long, "x"}}, 2, true},
		"many arguments":     {Spec{Cmd: "a", Args: slices.Repeat([]string{"b"}, 1000)}, maxBriefCount, true},
		"the longest":        {Spec{Cmd: "a", Args: []string{strings.Repeat("b", maxBriefArgs)}}, 1, false},
		"one byte too many":  {Spec{Cmd: "a", Args: []string{strings.Repeat("b", maxBriefArgs), "c"}}, 1, true},
		"empty arguments":    {Spec{Cmd: "a", Args: make([]string, 65000)}, maxBriefCount, true},
		"half of characters": {Spec{Cmd: "a", Args: []string{"b" + long}}, 1, true},
	} {
		b := newBrief(&c.spec, time.Now())
		size := len(b.Cmd) + len(b.User)
		for _, arg := range b.Args {
			size += len(arg) + textOverhead
		}
		text := b.Cmd + b.User + strings.Join(b.Args, "")
		if len(b.Args) != c.args || b.ArgsTruncated != c.cut || size > b.bytes || b.bytes > 4<<10 || strings.ToValidUTF8(text, "?") != text {
			t.Errorf("%s: %d arguments, truncated %t, %d bytes counted as %d", name, len(b.Args), b.ArgsTruncated, size, b.bytes)
		}
	}
}

// BenchmarkStart measures a command from its start to its end.
func BenchmarkStart(b *testing.B) {
	table := NewTable(NoGroups{})
	defer table.Close(context.Background())
	spec := command(os.TempDir(), "/bin/true", "one", "two")
	b.ReportAllocs()
	for b.Loop() {
		p, sub, err := table.Start(spec)
		if err != nil {
			b.Fatal(err)
		}
		sub.Detach()
		<-p.Ended()
	}
}

// BenchmarkBrief measures the part of BenchmarkStart that keeps the record.
func BenchmarkBrief(b *testing.B) {
	var r briefs
	spec := command("/", "/bin/true", "one", "two")
	b.ReportAllocs()
	for b.Loop() {
		record := newBrief(&spec, time.Now())
		r.add(record)
		r.end(record, time.Now(), Exit{})
	}
}
