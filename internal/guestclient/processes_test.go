package guestclient_test

import (
	"bytes"
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/wrenn-dev/wrenn/api/gen/process"
	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	guestprocess "github.com/wrenn-dev/wrenn/internal/guest/process"
	"github.com/wrenn-dev/wrenn/internal/guestclient"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
)

func starting(m *guestv1.StartProcess) *guestv1.ProcessCall {
	return &guestv1.ProcessCall{Operation: &guestv1.ProcessCall_Start{Start: m}}
}

func getting(id string, wait time.Duration) *guestv1.ProcessCall {
	get := &guestv1.GetProcess{Id: id, WaitMs: uint32(wait.Milliseconds())}
	return &guestv1.ProcessCall{Operation: &guestv1.ProcessCall_Get{Get: get}}
}

func acknowledging(id string, offset uint64) *guestv1.ProcessCall {
	ack := &guestv1.Acknowledge{Id: id, Offset: offset}
	return &guestv1.ProcessCall{Operation: &guestv1.ProcessCall_Acknowledge{Acknowledge: ack}}
}

func writing(id, data string, end bool) *guestv1.ProcessCall {
	in := &guestv1.WriteInput{Id: id, Data: []byte(data), Close: end}
	return &guestv1.ProcessCall{Operation: &guestv1.ProcessCall_Input{Input: in}}
}

// call does an operation that must succeed, and returns its one process.
func call(t *testing.T, c *guestclient.Client, m *guestv1.ProcessCall) *guestv1.ProcessRecord {
	t.Helper()
	answer, err := c.CallProcess(t.Context(), m)
	if err != nil {
		t.Fatalf("%v: %v", m, err)
	}
	return answer.GetProcesses()[0]
}

// attach reads from an offset until the end, or until enough bytes have come, and
// returns the output, the number of dropped bytes and the last record.
func attach(t *testing.T, c *guestclient.Client, id string, offset int64, enough int) (out []byte, dropped uint64, last *guestv1.ProcessRecord) {
	t.Helper()
	a, err := c.Attach(t.Context(), &guestv1.AttachCall{Id: id, Offset: offset})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for enough > len(out) {
		event, err := a.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if event.GetPiece().GetKind() == guestv1.Piece_KIND_DROPPED {
			dropped += event.GetPiece().GetBytes()
		}
		out = append(out, event.GetPiece().GetData()...)
		if p := event.GetProcess(); p != nil {
			last = p
			if p.GetEndedUnixNano() != 0 && (len(out) > 0 || dropped > 0 || p.GetOutputEnd() == uint64(max(offset, 0))) {
				break
			}
		}
	}
	return out, dropped, last
}

const plenty = 1 << 30

func TestProcessOutlivesItsReaders(t *testing.T) {
	c := newClient(t)
	begun := shell("echo one; read x; echo two $x; exit 3")
	begun.Stdin = proto.Bool(true)
	p := call(t, c, starting(&guestv1.StartProcess{Id: "p1", Start: begun}))
	if p.GetId() != "p1" || p.GetEndedUnixNano() != 0 || !p.GetStdin() || p.GetCmd() != "/bin/sh" {
		t.Fatalf("got %v after the start", p)
	}
	if out, _, _ := attach(t, c, "p1", 0, 4); string(out) != "one\n" {
		t.Fatalf("got %q, want one", out)
	}
	call(t, c, writing("p1", "three\n", true))
	if p = call(t, c, getting("p1", patience)); p.GetEndedUnixNano() == 0 || p.GetExitCode() != 3 {
		t.Fatalf("got %v after the wait, want exit code 3", p)
	}
	out, _, last := attach(t, c, "p1", 2, plenty)
	if string(out) != "e\ntwo three\n" || last.GetExitCode() != 3 {
		t.Errorf("got %q and %v from offset 2", out, last)
	}
	if _, err := c.CallProcess(t.Context(), writing("p1", "x", false)); !fault.Is(err, fault.WrongState) || fault.ReasonOf(err) != "process_ended" {
		t.Errorf("input to an ended process: %v, want process_ended", err)
	}
	answer, err := c.CallProcess(t.Context(), &guestv1.ProcessCall{Operation: &guestv1.ProcessCall_List{}})
	if err != nil || len(answer.GetProcesses()) != 1 || answer.GetProcesses()[0].GetId() != "p1" {
		t.Errorf("got %v, %v; want the one process", answer, err)
	}
	if _, err := c.CallProcess(t.Context(), getting("p2", 0)); fault.ReasonOf(err) != "process_not_found" {
		t.Errorf("an unknown process: %v, want process_not_found", err)
	}
}

func TestEveryByteOfABlockingProcessArrives(t *testing.T) {
	c := newClient(t)
	const size = 1 << 20
	script := `i=0; while [ $i -lt 8 ]; do head -c 131072 /dev/zero | tr '\0' $i; i=$((i+1)); done`
	call(t, c, starting(&guestv1.StartProcess{Id: "big", Start: shell(script), Block: true, JournalBytes: 64 << 10}))
	var got []byte
	for i := 0; len(got) < size; i++ {
		out, dropped, _ := attach(t, c, "big", int64(len(got)), 1)
		if dropped != 0 {
			t.Fatalf("%d bytes were dropped at %d", dropped, len(got))
		}
		// Every other time a part is lost on the way.
		got = append(got, out[:len(out)/(1+i%2)]...)
		call(t, c, acknowledging("big", uint64(len(got))))
	}
	for i := range 8 {
		if !bytes.Equal(got[i<<17:(i+1)<<17], bytes.Repeat([]byte{byte('0' + i)}, 1<<17)) {
			t.Errorf("part %d differs", i)
		}
	}
	if p := call(t, c, getting("big", patience)); p.GetEndedUnixNano() == 0 || p.GetDropped() != 0 || p.GetOutputEnd() != size {
		t.Errorf("got %v at the end", p)
	}
}

func TestDroppedOutputIsCounted(t *testing.T) {
	c := newClient(t)
	const size = 1 << 20
	call(t, c, starting(&guestv1.StartProcess{Id: "lossy", Start: shell("head -c 1048576 /dev/zero"), JournalBytes: 64 << 10}))
	p := call(t, c, getting("lossy", patience))
	out, dropped, _ := attach(t, c, "lossy", 0, plenty)
	if dropped != p.GetDropped() || uint64(len(out))+dropped != size || dropped == 0 {
		t.Errorf("got %d bytes and %d dropped, and the record says %v", len(out), dropped, p)
	}
}

func TestSignalsAndTerminal(t *testing.T) {
	c := newClient(t)
	pty := &process.PTY{Size: &process.PTY_Size{Cols: 90, Rows: 20}}
	start := shell("trap 'stty size' WINCH; stty size; while :; do read x; [ \"$x\" = b ] && exit 7; done")
	start.Pty = pty
	call(t, c, starting(&guestv1.StartProcess{Id: "tty", Start: start}))
	if out, _, _ := attach(t, c, "tty", 0, len("20 90\r\n")); string(out) != "20 90\r\n" {
		t.Fatalf("got %q, want the size of the start", out)
	}
	call(t, c, writing("tty", "a\n", false))
	resize := &guestv1.ResizeTerminal{Id: "tty", Cols: 100, Rows: 30}
	call(t, c, &guestv1.ProcessCall{Operation: &guestv1.ProcessCall_Resize{Resize: resize}})
	call(t, c, writing("tty", "b\n", false))
	out, _, last := attach(t, c, "tty", 0, plenty)
	if !strings.Contains(string(out), "30 100\r\n") || last.GetExitCode() != 7 {
		t.Errorf("got %q and %v after the resize", out, last)
	}
	call(t, c, starting(&guestv1.StartProcess{Id: "idle", Start: shell("sleep 1000")}))
	term := &guestv1.SignalProcess{Id: "idle", Signal: 15}
	call(t, c, &guestv1.ProcessCall{Operation: &guestv1.ProcessCall_Signal{Signal: term}})
	if p := call(t, c, getting("idle", patience)); p.GetSignal() != 15 {
		t.Errorf("got %v, want the end by signal 15", p)
	}
}

func TestWaitEndsWithItsCaller(t *testing.T) {
	c := newClient(t)
	call(t, c, starting(&guestv1.StartProcess{Id: "idle", Start: shell("sleep 1000")}))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := c.CallProcess(ctx, getting("idle", time.Hour)); !fault.Is(err, fault.Timeout) {
		t.Errorf("got %v, want the end of the caller's time", err)
	}
}

// TestListOfManyProcesses: the largest records of all processes that a guest may keep
// are no lie.
func TestListOfManyProcesses(t *testing.T) {
	answer := &guestv1.ProcessAnswer{}
	text, args := strings.Repeat("x", 256), make([]string, 512)
	for range guestprocess.MaxRunning + guestprocess.MaxRecords {
		answer.Processes = append(answer.Processes, &guestv1.ProcessRecord{Id: "p", Cmd: text, Cwd: text, User: text, Args: args})
	}
	frame := guestwire.AppendFrame(nil, guestwire.Answer, func(b []byte) []byte { return guestwire.AppendProcessAnswer(b, answer) })
	list := &guestv1.ProcessCall{Operation: &guestv1.ProcessCall_List{List: &guestv1.ListProcesses{}}}
	got, err := hostile(t, frame).CallProcess(t.Context(), list)
	if err != nil || len(got.GetProcesses()) != len(answer.GetProcesses()) {
		t.Errorf("list of %d processes in %d bytes: got %d, %v", len(answer.GetProcesses()), len(frame), len(got.GetProcesses()), err)
	}
}

// TestLyingGuestOfProcesses: a guest that breaks the protocol of processes is found out.
func TestLyingGuestOfProcesses(t *testing.T) {
	frame := func(t guestwire.Type, m proto.Message) []byte {
		return guestwire.AppendFrame(nil, t, func(b []byte) []byte { b, _ = proto.MarshalOptions{}.MarshalAppend(b, m); return b })
	}
	record := func(id string) *guestv1.ProcessRecord { return &guestv1.ProcessRecord{Id: id} }
	piece := func(p *guestv1.Piece) []byte {
		return append(frame(guestwire.Event, &guestv1.AttachEvent{Process: record("p")}), frame(guestwire.Event, &guestv1.AttachEvent{Piece: p})...)
	}
	answers := map[string][]byte{
		"another process": frame(guestwire.Answer, &guestv1.ProcessAnswer{Processes: []*guestv1.ProcessRecord{record("q")}}),
		"none":            frame(guestwire.Answer, &guestv1.ProcessAnswer{}),
		"two":             frame(guestwire.Answer, &guestv1.ProcessAnswer{Processes: []*guestv1.ProcessRecord{record("p"), record("p")}}),
		"a huge text":     frame(guestwire.Answer, &guestv1.ProcessAnswer{Processes: []*guestv1.ProcessRecord{{Id: "p", Cmd: strings.Repeat("x", 9999)}}}),
		"offsets":         frame(guestwire.Answer, &guestv1.ProcessAnswer{Processes: []*guestv1.ProcessRecord{{Id: "p", OutputStart: 2, OutputEnd: 1}}}),
	}
	for name, answer := range answers {
		if _, err := hostile(t, answer).CallProcess(t.Context(), getting("p", 0)); fault.ReasonOf(err) != "guest_failed" {
			t.Errorf("%s: got %v, want guest_failed", name, err)
		}
	}
	streams := map[string][]byte{
		"a piece before the process": frame(guestwire.Event, &guestv1.AttachEvent{Piece: &guestv1.Piece{Kind: 1, Offset: 5, Data: []byte("x"), Bytes: 1}}),
		"a gap":                      piece(&guestv1.Piece{Kind: 1, Offset: 6, Data: []byte("x"), Bytes: 1}),
		"a repetition":               piece(&guestv1.Piece{Kind: 1, Offset: 4, Data: []byte("x"), Bytes: 1}),
		"a wrong length":             piece(&guestv1.Piece{Kind: 1, Offset: 5, Data: []byte("x"), Bytes: 2}),
		"an unknown stream":          piece(&guestv1.Piece{Kind: 9, Offset: 5, Data: []byte("x"), Bytes: 1}),
		"dropped with data":          piece(&guestv1.Piece{Kind: 4, Offset: 5, Data: []byte("x"), Bytes: 1}),
		"nothing dropped":            piece(&guestv1.Piece{Kind: 4, Offset: 5}),
		"an end without an end":      append(frame(guestwire.Event, &guestv1.AttachEvent{Process: record("p")}), frame(guestwire.Event, &guestv1.AttachEvent{Process: record("p")})...),
		"empty events":               append(frame(guestwire.Event, &guestv1.AttachEvent{Process: record("p")}), bytes.Repeat(frame(guestwire.Event, &guestv1.AttachEvent{}), 10_000)...),
	}
	for name, stream := range streams {
		a, err := hostile(t, stream).Attach(t.Context(), &guestv1.AttachCall{Id: "p", Offset: 5})
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Each(func(*guestv1.AttachEvent) error { return nil }); fault.ReasonOf(err) != "guest_failed" {
			t.Errorf("%s: got %v, want guest_failed", name, err)
		}
		_ = a.Close()
	}
}

// outdatedGuest returns a client of an agent that answers pings and hangs up at every
// other call, as one of a version that does not know the call.
func outdatedGuest(t *testing.T) *guestclient.Client {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			served.Go(func() {
				defer conn.Close()
				for r := guestwire.NewReader(conn); ; {
					kind, _, err := r.Frame(1 << 20)
					if err != nil || kind != guestwire.Ping {
						return
					}
					_, _ = conn.Write(guestwire.AppendFrame(nil, guestwire.Answer, nil))
				}
			})
		}
	})
	c := guestclient.New(dialer(listener.Addr().String()))
	t.Cleanup(func() { c.Close(); _ = listener.Close(); served.Wait() })
	return c
}

// TestOutdatedGuest: an agent that answers pings and hangs up at calls of processes is
// one of a version without them.
func TestOutdatedGuest(t *testing.T) {
	_, err := outdatedGuest(t).CallProcess(t.Context(), getting("p", 0))
	if !fault.Is(err, fault.Unsupported) || fault.ReasonOf(err) != "processes_unsupported" {
		t.Errorf("got %v, want processes_unsupported", err)
	}
}
