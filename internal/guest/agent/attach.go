package agent

import (
	"context"
	"time"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guest/process"
)

// Attach sends the output of a process to send, from an offset on, until the process
// has ended. send may keep nothing of its argument. When send fails or ctx ends, Attach
// returns and the process continues. ctx must come from Epoch.Bind.
func (a *Agent) Attach(ctx context.Context, call *guestv1.AttachCall, send func(*guestv1.AttachEvent) error) error {
	proc, err := a.processes.ByID(call.GetId())
	if err != nil {
		return fault.As(err)
	}
	sub, err := proc.SubscribeFrom(max(call.GetOffset(), -1), call.GetAutoAcknowledge())
	if err != nil {
		return fault.As(err)
	}
	defer sub.Detach()
	if err := send(&guestv1.AttachEvent{Process: recordOf(proc)}); err != nil {
		return err
	}
	if err := followPieces(ctx, sub, send); err != nil {
		return err
	}
	select {
	case <-proc.Ended():
		return send(&guestv1.AttachEvent{Process: recordOf(proc)})
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// followPieces sends the pieces of sub until its end. A silent stream carries
// keepalives.
func followPieces(ctx context.Context, sub *process.Subscription, send func(*guestv1.AttachEvent) error) error {
	quiet := time.NewTimer(DefaultKeepalive)
	defer quiet.Stop()
	buf := buffers.Get().(*[followBytes]byte)
	defer buffers.Put(buf)
	for {
		piece, more, ended := sub.Next(buf[:])
		if ended {
			return nil
		}
		if more {
			if err := send(&guestv1.AttachEvent{Piece: pieceOf(piece)}); err != nil {
				return err
			}
			quiet.Reset(DefaultKeepalive)
			if ctx.Err() == nil {
				continue
			}
		}
		select {
		case <-sub.Ready():
		case <-quiet.C:
			if err := send(&guestv1.AttachEvent{}); err != nil {
				return err
			}
			quiet.Reset(DefaultKeepalive)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func pieceOf(o process.Output) *guestv1.Piece {
	kinds := map[process.Kind]guestv1.Piece_Kind{
		process.Stdout: guestv1.Piece_KIND_STDOUT, process.Stderr: guestv1.Piece_KIND_STDERR,
		process.Terminal: guestv1.Piece_KIND_TERMINAL, process.Dropped: guestv1.Piece_KIND_DROPPED,
	}
	return &guestv1.Piece{Kind: kinds[o.Kind], Offset: uint64(o.Offset), Data: o.Data, Bytes: uint64(o.Bytes)}
}

// recordOf returns p as the host sees it.
func recordOf(p *process.Process) *guestv1.ProcessRecord {
	spec, extent := p.Spec(), p.Extent()
	m := &guestv1.ProcessRecord{
		Id: spec.ID, Cmd: process.Head(spec.Cmd, maxRecordText), Cwd: process.Head(spec.Dir, maxRecordText), User: process.Head(spec.Label.User, maxRecordText),
		Stdin: spec.Stdin && spec.Terminal == nil, Terminal: spec.Terminal != nil, Block: spec.Block, JournalBytes: uint32(p.JournalLimit()),
		StartedUnixNano: p.StartedAt().UnixNano(),
		OutputStart:     uint64(extent.Start), OutputEnd: uint64(extent.End), Acknowledged: uint64(extent.Acked), Dropped: uint64(extent.Dropped),
	}
	size := 0
	for _, arg := range spec.Args {
		if size += len(arg) + 1; size > maxRecordArgs {
			m.ArgsTruncated = true
			break
		}
		m.Args = append(m.Args, arg)
	}
	select {
	case <-p.Ended():
		setExit(m, p.ExitedAt(), p.Exit())
	default:
	}
	return m
}

// commandOf returns a command without an id as the host sees it.
func commandOf(b process.Brief) *guestv1.ProcessRecord {
	m := &guestv1.ProcessRecord{
		Cmd: b.Cmd, Args: b.Args, ArgsTruncated: b.ArgsTruncated, User: b.User, StartedUnixNano: b.Started.UnixNano(),
	}
	if !b.Ended.IsZero() {
		setExit(m, b.Ended, b.Exit)
	}
	return m
}

// setExit writes the end of a process to its record.
func setExit(m *guestv1.ProcessRecord, at time.Time, exit process.Exit) {
	m.EndedUnixNano = at.UnixNano()
	m.ExitCode, m.Signal = uint32(max(exit.Code, 0)), uint32(exit.Signal)
	m.TimedOut, m.Oom = exit.TimedOut, exit.OutOfMemory
}
