package guestwire

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/wrenn-dev/wrenn/api/gen/process"
	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
)

// ParseConfigureRequest reads a ConfigureRequest. Like all parsers here it
// keeps nothing of b and fails with ErrMalformed.
func ParseConfigureRequest(b []byte) (*guestv1.ConfigureRequest, error) {
	m := &guestv1.ConfigureRequest{}
	return m, walk(b, func(f field) error {
		switch f.num {
		case 1:
			return f.text(&m.SandboxId)
		case 2:
			number(f, &m.Generation)
		case 3:
			number(f, &m.WallClockUnixNano)
		case 4:
			if f.typ == protowire.BytesType {
				m.Entropy = append([]byte(nil), f.b...)
			}
		case 5:
			return f.text(&m.Hostname)
		case 6:
			return f.entry(&m.Envs)
		case 7:
			return parseUser(f, &m.Users)
		case 8:
			return f.text(&m.DefaultUser)
		case 9:
			return f.text(&m.DefaultWorkdir)
		case 10:
			return f.text(&m.AccessToken)
		case 11:
			return parseText(f, &m.Nameservers)
		case 12:
			f.flag(&m.NewIdentity)
		case 14:
			f.flag(&m.Hold)
		case 15:
			return f.text(&m.EnvdToken)
		}
		return nil
	})
}

// parseText appends f to a list of texts.
func parseText(f field, to *[]string) error {
	if f.typ != protowire.BytesType {
		return nil
	}
	var v string
	err := f.text(&v)
	*to = append(*to, v)
	return err
}

func parseUser(f field, to *[]*guestv1.User) error {
	if f.typ != protowire.BytesType {
		return nil
	}
	m := &guestv1.User{}
	*to = append(*to, m)
	return f.message(func(f field) error {
		switch f.num {
		case 1:
			return f.text(&m.Name)
		case 2:
			number(f, &m.Uid)
		case 3:
			number(f, &m.Gid)
		case 4:
			return f.text(&m.Home)
		case 5:
			return f.text(&m.Shell)
		}
		return nil
	})
}

// ParseQuiesceRequest reads a QuiesceRequest.
func ParseQuiesceRequest(b []byte) (*guestv1.QuiesceRequest, error) {
	m := &guestv1.QuiesceRequest{}
	return m, walk(b, func(f field) error {
		if f.num == 1 {
			f.flag(&m.SyncDisk)
		}
		return nil
	})
}

// ParseHoldRequest reads a HoldRequest.
func ParseHoldRequest(b []byte) (*guestv1.HoldRequest, error) {
	m := &guestv1.HoldRequest{}
	return m, walk(b, func(f field) error {
		if f.num == 1 {
			f.flag(&m.SyncDisk)
		}
		return nil
	})
}

// ParseReleaseRequest reads a ReleaseRequest.
func ParseReleaseRequest(b []byte) (*guestv1.ReleaseRequest, error) {
	m := &guestv1.ReleaseRequest{}
	return m, walk(b, func(f field) error {
		if f.num == 1 {
			number(f, &m.ClockAdjustNano)
		}
		return nil
	})
}

// ParseExecCall reads an ExecCall.
func ParseExecCall(b []byte) (*guestv1.ExecCall, error) {
	m := &guestv1.ExecCall{}
	return m, walk(b, func(f field) error {
		switch f.num {
		case 1:
			if f.typ == protowire.BytesType && m.Start == nil {
				m.Start = &process.StartRequest{}
			}
			return f.message(func(f field) error { return parseStart(f, m.Start) })
		case 2:
			return f.text(&m.User)
		case 3:
			number(f, &m.TimeoutMs)
		case 4:
			number(f, &m.Ticket)
		case 5:
			f.flag(&m.Unrecorded)
		}
		return nil
	})
}

// ParseOutcomeCall reads an OutcomeCall.
func ParseOutcomeCall(b []byte) (*guestv1.OutcomeCall, error) {
	m := &guestv1.OutcomeCall{}
	return m, walk(b, func(f field) error {
		if f.num == 1 {
			number(f, &m.Ticket)
		}
		return nil
	})
}

// ParseDialCall reads a DialCall.
func ParseDialCall(b []byte) (*guestv1.DialCall, error) {
	m := &guestv1.DialCall{}
	return m, walk(b, func(f field) error {
		if f.num == 1 {
			number(f, &m.Port)
		}
		return nil
	})
}

func parseStart(f field, m *process.StartRequest) error {
	switch f.num {
	case 1:
		if f.typ == protowire.BytesType && m.Process == nil {
			m.Process = &process.ProcessConfig{}
		}
		return f.message(func(f field) error { return parseCommand(f, m.Process) })
	case 2:
		if f.typ == protowire.BytesType && m.Pty == nil {
			m.Pty = &process.PTY{}
		}
		return f.message(func(f field) error { return parseTerminal(f, m.Pty) })
	case 3:
		return f.optionalText(&m.Tag)
	case 4:
		if f.typ == protowire.VarintType {
			m.Stdin = new(bool)
			f.flag(m.Stdin)
		}
	}
	return nil
}

func parseCommand(f field, m *process.ProcessConfig) error {
	switch f.num {
	case 1:
		return f.text(&m.Cmd)
	case 2:
		return parseText(f, &m.Args)
	case 3:
		return f.entry(&m.Envs)
	case 4:
		return f.optionalText(&m.Cwd)
	}
	return nil
}

func parseTerminal(f field, m *process.PTY) error {
	if f.num != 1 {
		return nil
	}
	if f.typ == protowire.BytesType && m.Size == nil {
		m.Size = &process.PTY_Size{}
	}
	return f.message(func(f field) error {
		switch f.num {
		case 1:
			number(f, &m.Size.Cols)
		case 2:
			number(f, &m.Size.Rows)
		}
		return nil
	})
}

// ParseInputCall reads an InputCall.
func ParseInputCall(b []byte) (*guestv1.InputCall, error) {
	m := &guestv1.InputCall{}
	return m, walk(b, func(f field) error {
		if f.num == 1 {
			number(f, &m.Pid)
		}
		return nil
	})
}

// ParseKillCall reads a KillCall.
func ParseKillCall(b []byte) (*guestv1.KillCall, error) {
	m := &guestv1.KillCall{}
	return m, walk(b, func(f field) error {
		if f.num == 1 {
			number(f, &m.Pid)
		}
		return nil
	})
}

// ParseWriteFileCall reads a WriteFileCall.
func ParseWriteFileCall(b []byte) (*guestv1.WriteFileCall, error) {
	m := &guestv1.WriteFileCall{}
	return m, walk(b, func(f field) error {
		switch f.num {
		case 1:
			return f.text(&m.Path)
		case 2:
			return f.text(&m.User)
		case 3:
			if f.typ == protowire.VarintType {
				m.Mode = new(uint32)
				number(f, m.Mode)
			}
		}
		return nil
	})
}

// ParseReadFileCall reads a ReadFileCall.
func ParseReadFileCall(b []byte) (*guestv1.ReadFileCall, error) {
	m := &guestv1.ReadFileCall{}
	return m, walk(b, func(f field) error {
		switch f.num {
		case 1:
			return f.text(&m.Path)
		case 2:
			return f.text(&m.User)
		case 3:
			f.flag(&m.Ranged)
		case 4:
			if f.typ == protowire.VarintType {
				m.Offset = protowire.DecodeZigZag(f.n)
			}
		case 5:
			number(f, &m.Length)
		case 6:
			return f.text(&m.IfTag)
		}
		return nil
	})
}
