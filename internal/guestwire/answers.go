package guestwire

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/wrenn-dev/wrenn/api/gen/process"
	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
)

// AppendConfigureResponse appends m to b.
func AppendConfigureResponse(b []byte, m *guestv1.ConfigureResponse) []byte {
	b = appendNumber(b, 1, uint64(m.ClockStepNano))
	b = appendFlag(b, 2, m.Reseeded)
	b = appendText(b, 3, m.GuestVersion)
	b = appendText(b, 4, m.KernelRelease)
	b = appendNumber(b, 5, uint64(m.WallClockUnixNano))
	b = appendFlag(b, 6, m.NewIdentity)
	b = appendNumber(b, 7, uint64(m.ConnectionsClosed))
	for name, micros := range m.StepMicros {
		b = appendMessage(b, 8, appendNumber(appendText(nil, 1, name), 2, uint64(micros)))
	}
	return b
}

// AppendQuiesceResponse appends m to b.
func AppendQuiesceResponse(b []byte, m *guestv1.QuiesceResponse) []byte {
	b = appendNumber(b, 1, uint64(m.Frozen))
	for _, p := range m.Processes {
		b = appendMessage(b, 2, appendRecord(nil, p))
	}
	return appendFlag(b, 3, m.Listed)
}

// AppendHoldResponse appends m to b.
func AppendHoldResponse(b []byte, m *guestv1.HoldResponse) []byte {
	b = appendNumber(b, 1, uint64(m.Frozen))
	return appendFlag(b, 2, m.Synced)
}

// AppendReleaseResponse appends m to b.
func AppendReleaseResponse(b []byte, m *guestv1.ReleaseResponse) []byte {
	return appendNumber(b, 1, uint64(m.WallClockUnixNano))
}

// AppendFileInfo appends m to b.
func AppendFileInfo(b []byte, m *guestv1.FileInfo) []byte {
	b = appendNumber(b, 1, protowire.EncodeZigZag(m.Size))
	b = appendFlag(b, 2, m.Ranged)
	b = appendNumber(b, 3, m.Offset)
	b = appendNumber(b, 4, m.Total)
	b = appendText(b, 5, m.Tag)
	return appendNumber(b, 6, protowire.EncodeZigZag(m.ModifiedUnixNano))
}

// AppendFailure appends m to b.
func AppendFailure(b []byte, m *guestv1.Failure) []byte {
	b = appendText(b, 1, m.Kind)
	b = appendText(b, 2, m.Reason)
	return appendText(b, 3, m.Message)
}

// AppendEvent appends m to b.
func AppendEvent(b []byte, m *process.ProcessEvent) []byte {
	switch e := m.Event.(type) {
	case *process.ProcessEvent_Start:
		b = appendMessage(b, 1, appendNumber(nil, 1, uint64(e.Start.GetPid())))
	case *process.ProcessEvent_Data:
		b = appendOutput(b, e.Data)
	case *process.ProcessEvent_End:
		b = appendMessage(b, 3, appendEnd(nil, e.End))
	case *process.ProcessEvent_Keepalive:
		b = appendMessage(b, 4, nil)
	}
	return b
}

// appendOutput appends a DataEvent without a copy of the output in between.
func appendOutput(b []byte, m *process.ProcessEvent_DataEvent) []byte {
	var num protowire.Number
	var output []byte
	switch o := m.GetOutput().(type) {
	case *process.ProcessEvent_DataEvent_Stdout:
		num, output = 1, o.Stdout
	case *process.ProcessEvent_DataEvent_Stderr:
		num, output = 2, o.Stderr
	case *process.ProcessEvent_DataEvent_Pty:
		num, output = 3, o.Pty
	default:
		return appendMessage(b, 2, nil)
	}
	b = protowire.AppendTag(b, 2, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(protowire.SizeTag(num)+protowire.SizeBytes(len(output))))
	return appendMessage(b, num, output)
}

func appendEnd(b []byte, m *process.ProcessEvent_EndEvent) []byte {
	b = appendNumber(b, 1, protowire.EncodeZigZag(int64(m.GetExitCode())))
	b = appendFlag(b, 2, m.GetExited())
	b = appendText(b, 3, m.GetStatus())
	if m != nil && m.Error != nil {
		b = protowire.AppendString(protowire.AppendTag(b, 4, protowire.BytesType), *m.Error)
	}
	return appendFlag(b, 100, m.GetOom())
}
