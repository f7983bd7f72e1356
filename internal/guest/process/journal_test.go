package process

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

func testJournal(limit int) *journal { return newJournal(&room{total: 1 << 20}, limit) }

func subscribe(t *testing.T, j *journal, from int64, auto bool) *Subscription {
	t.Helper()
	s, err := j.subscribe(from, auto)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// drainAll returns the pieces that sub can take now.
func drainAll(sub *Subscription) (text string, dropped int64) {
	buf := make([]byte, 1000)
	for {
		piece, ok, _ := sub.Next(buf)
		if !ok {
			return text, dropped
		}
		if piece.Kind == Dropped {
			dropped += piece.Bytes
		}
		text += string(piece.Data)
	}
}

func TestJournalKeepsTheNewestOutput(t *testing.T) {
	j := testJournal(firstRing)
	all := strings.Repeat("0123456789", 10_000)
	j.publish(Stdout, []byte(all))
	text, dropped := drainAll(subscribe(t, j, 0, true))
	if dropped+int64(len(text)) != int64(len(all)) || !strings.HasSuffix(all, text) || len(text) < firstRing/2 {
		t.Errorf("got %d bytes and %d dropped of %d", len(text), dropped, len(all))
	}
	if e := j.extent(); e.Dropped != dropped || e.End != int64(len(all)) || e.Start != dropped {
		t.Errorf("got %+v, want %d dropped of %d", e, dropped, len(all))
	}
}

func TestJournalRefusesAnOffsetBeyondTheEnd(t *testing.T) {
	j := testJournal(firstRing)
	j.publish(Stdout, []byte("abc"))
	if _, err := j.subscribe(4, true); fault.ReasonOf(err) != "invalid_offset" {
		t.Errorf("got %v, want invalid_offset", err)
	}
	if text, _ := drainAll(subscribe(t, j, 1, true)); text != "bc" {
		t.Errorf("got %q from offset 1, want bc", text)
	}
}

func TestJournalKeepsTheStreamsApart(t *testing.T) {
	j := testJournal(firstRing)
	for i := range 3 * maxRuns {
		j.publish([]Kind{Stdout, Stderr}[i%2], []byte{byte('a' + i%2)})
	}
	sub := subscribe(t, j, 0, true)
	first, ok, _ := sub.Next(make([]byte, 10))
	if !ok || first.Kind != Dropped || first.Bytes != 2*maxRuns {
		t.Fatalf("got %+v, want %d bytes dropped", first, 2*maxRuns)
	}
	for i := range maxRuns {
		piece, ok, _ := sub.Next(make([]byte, 10))
		want := Output{Kind: []Kind{Stdout, Stderr}[i%2], Offset: int64(2*maxRuns + i), Data: []byte{byte('a' + i%2)}, Bytes: 1}
		if !ok || fmt.Sprint(piece) != fmt.Sprint(want) {
			t.Fatalf("got %v, want %v", piece, want)
		}
	}
}

func TestBlockingJournalWaitsForAcknowledgements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := testJournal(firstRing)
		j.block = true
		content := bytes.Repeat([]byte("0123456789abcdef"), 8192) // 128 KiB
		go func() {
			j.publish(Stdout, content)
			j.close()
		}()
		var got []byte
		for len(got) < len(content) {
			// Each reader takes everything and confirms half of it.
			sub := subscribe(t, j, int64(len(got)), false)
			time.Sleep(time.Hour)
			text, dropped := drainAll(sub)
			if dropped != 0 || len(text) == 0 || len(text) > firstRing {
				t.Fatalf("got %d bytes and %d dropped at %d", len(text), dropped, len(got))
			}
			got = append(got, text[:(len(text)+1)/2]...)
			sub.Detach()
		}
		if !bytes.Equal(got, content) {
			t.Error("the content differs")
		}
	})
}

func TestJournalWaitsForAReaderThatReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := testJournal(firstRing)
		sub := subscribe(t, j, 0, true)
		const size = 10 * firstRing
		go func() {
			j.publish(Stdout, make([]byte, size))
			j.close()
		}()
		got := 0
		for buf := make([]byte, 1<<10); ; {
			time.Sleep(stallPatience / 2)
			piece, _, ended := sub.Next(buf)
			if ended {
				break
			}
			if piece.Kind == Dropped {
				t.Fatalf("dropped %d bytes that a reader waited for", piece.Bytes)
			}
			got += len(piece.Data)
		}
		if got != size {
			t.Errorf("got %d bytes, want %d", got, size)
		}
	})
}

func TestStalledReaderDoesNotStopTheCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := testJournal(firstRing)
		sub := subscribe(t, j, 0, true)
		begin := time.Now()
		j.publish(Stdout, make([]byte, 10*firstRing))
		if passed := time.Since(begin); passed < stallPatience || passed > 2*stallPatience {
			t.Errorf("waited %v, want about %v", passed, stallPatience)
		}
		if _, dropped := drainAll(sub); dropped < 8*firstRing {
			t.Errorf("the reader was told of %d dropped bytes, want at least %d", dropped, 8*firstRing)
		}
	})
}

func TestRoomDropsTheOutputOfEndedCommands(t *testing.T) {
	r := &room{total: 8 * firstRing}
	old := newJournal(r, 4*firstRing)
	old.publish(Stdout, make([]byte, 4*firstRing))
	old.close()
	young := newJournal(r, 16*firstRing)
	young.publish(Stdout, make([]byte, 16*firstRing))
	if e := old.extent(); e.Start != e.End || e.Dropped != 4*firstRing {
		t.Errorf("the ended command has %+v, want everything dropped", e)
	}
	if e := young.extent(); e.End-e.Start != 8*firstRing || r.used != 8*firstRing {
		t.Errorf("the running command has %+v of %d used, want the whole room", e, r.used)
	}
	young.close()
	r.forget(old)
	r.forget(young)
	if r.used != 0 {
		t.Errorf("%d bytes are used after both were forgotten", r.used)
	}
}

// TestJournalProperty publishes random pieces and lets readers come and go: each gets
// the bytes of its offsets, and every byte is delivered or counted as dropped.
func TestJournalProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		j := newJournal(&room{total: 1 << 20}, rapid.IntRange(1, 3*firstRing).Draw(t, "limit"))
		var all []byte
		at := int64(0)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			n := rapid.IntRange(0, firstRing).Draw(t, "bytes")
			data := make([]byte, n)
			for i := range data {
				data[i] = byte(len(all) + i*7)
			}
			all = append(all, data...)
			j.publish(Kind(rapid.IntRange(1, 2).Draw(t, "kind")), data)
			if !rapid.Bool().Draw(t, "read") {
				continue
			}
			sub, err := j.subscribe(at, true)
			if err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, rapid.IntRange(1, firstRing).Draw(t, "buffer"))
			for range rapid.IntRange(1, 20).Draw(t, "reads") {
				piece, ok, _ := sub.Next(buf)
				if !ok {
					break
				}
				if piece.Offset != at || piece.Kind != Dropped && !bytes.Equal(piece.Data, all[at:at+piece.Bytes]) {
					t.Fatalf("wrong piece of %d bytes at %d, want %d", piece.Bytes, piece.Offset, at)
				}
				at += piece.Bytes
			}
			sub.Detach()
		}
		if e := j.extent(); e.End != int64(len(all)) {
			t.Fatalf("end is %d, want %d", e.End, len(all))
		}
	})
}

// TestReaderAtTheEndAcknowledgesNothingBeforeIt: a reader that begins at the end of the
// output has not got the output before it.
func TestReaderAtTheEndAcknowledgesNothingBeforeIt(t *testing.T) {
	j := newJournal(&room{total: maxJournalRoom}, firstRing)
	j.block = true
	j.publish(Stdout, []byte("unread"))
	late, err := j.subscribe(-1, true)
	if err != nil {
		t.Fatal(err)
	}
	defer late.Detach()
	j.publish(Stdout, []byte("new"))
	buf := make([]byte, 16)
	for range 2 {
		late.Next(buf)
	}
	if got := j.extent().Acked; got != 0 {
		t.Errorf("after a reader from offset 6: %d bytes are acknowledged, want none", got)
	}
	j.ack(6)
	late.Next(buf)
	if got := j.extent().Acked; got != 9 {
		t.Errorf("after the output before the reader was acknowledged: %d bytes are, want 9", got)
	}
}
