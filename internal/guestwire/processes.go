package guestwire

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/wrenn-dev/wrenn/api/gen/process"
	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
)

// ParseProcessCall reads a ProcessCall.
func ParseProcessCall(b []byte) (*guestv1.ProcessCall, error) {
	m := &guestv1.ProcessCall{}
	return m, walk(b, func(f field) error {
		if f.typ != protowire.BytesType {
			return nil
		}
		switch f.num {
		case 1:
			op := orNew(m.GetStart())
			m.Operation = &guestv1.ProcessCall_Start{Start: op}
			return f.message(func(f field) error { return parseStartProcess(f, op) })
		case 2:
			op := orNew(m.GetList())
			m.Operation = &guestv1.ProcessCall_List{List: op}
			return f.message(func(f field) error { return parseListProcesses(f, op) })
		case 3:
			op := orNew(m.GetGet())
			m.Operation = &guestv1.ProcessCall_Get{Get: op}
			return f.message(func(f field) error { return parseGetProcess(f, op) })
		case 4:
			op := orNew(m.GetInput())
			m.Operation = &guestv1.ProcessCall_Input{Input: op}
			return f.message(func(f field) error { return parseWriteInput(f, op) })
		case 5:
			op := orNew(m.GetSignal())
			m.Operation = &guestv1.ProcessCall_Signal{Signal: op}
			return f.message(func(f field) error { return parseSignalProcess(f, op) })
		case 6:
			op := orNew(m.GetResize())
			m.Operation = &guestv1.ProcessCall_Resize{Resize: op}
			return f.message(func(f field) error { return parseResize(f, op) })
		case 7:
			op := orNew(m.GetAcknowledge())
			m.Operation = &guestv1.ProcessCall_Acknowledge{Acknowledge: op}
			return f.message(func(f field) error { return parseAcknowledge(f, op) })
		}
		return nil
	})
}

// orNew returns m, or an empty message for nil: protobuf merges a message that is given
// twice.
func orNew[T any](m *T) *T {
	if m == nil {
		return new(T)
	}
	return m
}

func parseStartProcess(f field, m *guestv1.StartProcess) error {
	switch f.num {
	case 1:
		return f.text(&m.Id)
	case 2:
		if f.typ == protowire.BytesType && m.Start == nil {
			m.Start = &process.StartRequest{}
		}
		return f.message(func(f field) error { return parseStart(f, m.Start) })
	case 3:
		return f.text(&m.User)
	case 4:
		number(f, &m.TimeoutMs)
	case 5:
		number(f, &m.JournalBytes)
	case 6:
		f.flag(&m.Block)
	}
	return nil
}

func parseListProcesses(f field, m *guestv1.ListProcesses) error {
	switch f.num {
	case 1:
		f.flag(&m.Passive)
	case 2:
		f.flag(&m.Commands)
	}
	return nil
}

func parseGetProcess(f field, m *guestv1.GetProcess) error {
	switch f.num {
	case 1:
		return f.text(&m.Id)
	case 2:
		number(f, &m.WaitMs)
	}
	return nil
}

func parseWriteInput(f field, m *guestv1.WriteInput) error {
	switch f.num {
	case 1:
		return f.text(&m.Id)
	case 2:
		if f.typ == protowire.BytesType {
			m.Data = append([]byte(nil), f.b...)
		}
	case 3:
		f.flag(&m.Close)
	}
	return nil
}

func parseSignalProcess(f field, m *guestv1.SignalProcess) error {
	switch f.num {
	case 1:
		return f.text(&m.Id)
	case 2:
		number(f, &m.Signal)
	case 3:
		f.flag(&m.All)
	}
	return nil
}

func parseResize(f field, m *guestv1.ResizeTerminal) error {
	switch f.num {
	case 1:
		return f.text(&m.Id)
	case 2:
		number(f, &m.Cols)
	case 3:
		number(f, &m.Rows)
	}
	return nil
}

func parseAcknowledge(f field, m *guestv1.Acknowledge) error {
	switch f.num {
	case 1:
		return f.text(&m.Id)
	case 2:
		number(f, &m.Offset)
	}
	return nil
}

// ParseAttachCall reads an AttachCall.
func ParseAttachCall(b []byte) (*guestv1.AttachCall, error) {
	m := &guestv1.AttachCall{}
	return m, walk(b, func(f field) error {
		switch f.num {
		case 1:
			return f.text(&m.Id)
		case 2:
			if f.typ == protowire.VarintType {
				m.Offset = protowire.DecodeZigZag(f.n)
			}
		case 3:
			f.flag(&m.AutoAcknowledge)
		}
		return nil
	})
}

// AppendProcessAnswer appends m to b.
func AppendProcessAnswer(b []byte, m *guestv1.ProcessAnswer) []byte {
	for _, p := range m.Processes {
		b = appendMessage(b, 1, appendRecord(nil, p))
	}
	for _, p := range m.Commands {
		b = appendMessage(b, 2, appendRecord(nil, p))
	}
	return b
}

// AppendAttachEvent appends m to b. It copies the output once.
func AppendAttachEvent(b []byte, m *guestv1.AttachEvent) []byte {
	if m.Process != nil {
		b = appendMessage(b, 1, appendRecord(nil, m.Process))
	}
	if m.Piece == nil {
		return b
	}
	p := m.Piece
	var space [32]byte
	head := appendNumber(appendNumber(space[:0], 1, uint64(p.Kind)), 2, p.Offset)
	size := len(head) + sizeOfBytes(3, p.Data) + sizeOfNumber(4, p.Bytes)
	b = protowire.AppendVarint(protowire.AppendTag(b, 2, protowire.BytesType), uint64(size))
	b = append(b, head...)
	if len(p.Data) > 0 {
		b = appendMessage(b, 3, p.Data)
	}
	return appendNumber(b, 4, p.Bytes)
}

func sizeOfBytes(num protowire.Number, v []byte) int {
	if len(v) == 0 {
		return 0
	}
	return protowire.SizeTag(num) + protowire.SizeBytes(len(v))
}

func sizeOfNumber(num protowire.Number, v uint64) int {
	if v == 0 {
		return 0
	}
	return protowire.SizeTag(num) + protowire.SizeVarint(v)
}

func appendRecord(b []byte, m *guestv1.ProcessRecord) []byte {
	b = appendText(b, 1, m.Id)
	b = appendText(b, 2, m.Cmd)
	for _, arg := range m.Args {
		b = protowire.AppendString(protowire.AppendTag(b, 3, protowire.BytesType), arg)
	}
	b = appendFlag(b, 4, m.ArgsTruncated)
	b = appendText(b, 5, m.Cwd)
	b = appendText(b, 6, m.User)
	b = appendFlag(b, 7, m.Stdin)
	b = appendFlag(b, 8, m.Terminal)
	b = appendFlag(b, 9, m.Block)
	b = appendNumber(b, 10, uint64(m.JournalBytes))
	b = appendNumber(b, 11, uint64(m.StartedUnixNano))
	b = appendNumber(b, 12, uint64(m.EndedUnixNano))
	b = appendNumber(b, 13, uint64(m.ExitCode))
	b = appendNumber(b, 14, uint64(m.Signal))
	b = appendFlag(b, 15, m.TimedOut)
	b = appendFlag(b, 16, m.Oom)
	b = appendNumber(b, 17, m.OutputStart)
	b = appendNumber(b, 18, m.OutputEnd)
	b = appendNumber(b, 19, m.Acknowledged)
	b = appendNumber(b, 20, m.Dropped)
	return appendFlag(b, 21, m.Rebooted)
}
