package guestwire

import (
	"google.golang.org/protobuf/encoding/protowire"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
)

// ParseFileCall reads a FileCall.
func ParseFileCall(b []byte) (*guestv1.FileCall, error) {
	m := &guestv1.FileCall{}
	return m, walk(b, func(f field) error {
		if f.typ != protowire.BytesType {
			return nil
		}
		switch f.num {
		case 1:
			op := orNew(m.GetList())
			m.Operation = &guestv1.FileCall_List{List: op}
			return f.message(func(f field) error { return parseListFiles(f, op) })
		case 2:
			op := orNew(m.GetStat())
			m.Operation = &guestv1.FileCall_Stat{Stat: op}
			return f.message(func(f field) error { return pathAndFlag(f, &op.Path, &op.Follow) })
		case 3:
			op := orNew(m.GetMakeDirectory())
			m.Operation = &guestv1.FileCall_MakeDirectory{MakeDirectory: op}
			return f.message(func(f field) error { return parseMakeDirectory(f, op) })
		case 4:
			op := orNew(m.GetMove())
			m.Operation = &guestv1.FileCall_Move{Move: op}
			return f.message(func(f field) error { return parseMoveFile(f, op) })
		case 5:
			op := orNew(m.GetRemove())
			m.Operation = &guestv1.FileCall_Remove{Remove: op}
			return f.message(func(f field) error { return pathAndFlag(f, &op.Path, &op.Recursive) })
		case 6:
			return f.text(&m.User)
		}
		return nil
	})
}

func parseListFiles(f field, m *guestv1.ListFiles) error {
	switch f.num {
	case 1:
		return f.text(&m.Path)
	case 2:
		number(f, &m.Depth)
	case 3:
		number(f, &m.Limit)
	case 4:
		f.raw(&m.After)
	}
	return nil
}

// pathAndFlag reads a field of a message of a path and a flag.
func pathAndFlag(f field, path *string, flag *bool) error {
	switch f.num {
	case 1:
		return f.text(path)
	case 2:
		f.flag(flag)
	}
	return nil
}

func parseMakeDirectory(f field, m *guestv1.MakeDirectory) error {
	switch f.num {
	case 1:
		return f.text(&m.Path)
	case 2:
		f.flag(&m.Parents)
	case 3:
		if f.typ == protowire.VarintType {
			m.Mode = new(uint32)
			number(f, m.Mode)
		}
	}
	return nil
}

func parseMoveFile(f field, m *guestv1.MoveFile) error {
	switch f.num {
	case 1:
		return f.text(&m.From)
	case 2:
		return f.text(&m.To)
	case 3:
		f.flag(&m.Overwrite)
	}
	return nil
}

// ParseWatchFilesCall reads a WatchFilesCall.
func ParseWatchFilesCall(b []byte) (*guestv1.WatchFilesCall, error) {
	m := &guestv1.WatchFilesCall{}
	return m, walk(b, func(f field) error { return pathAndFlag(f, &m.Path, &m.Recursive) })
}

// ParsePackCall reads a PackCall.
func ParsePackCall(b []byte) (*guestv1.PackCall, error) {
	m := &guestv1.PackCall{}
	return m, walk(b, func(f field) error {
		if f.num == 1 {
			return f.text(&m.Path)
		}
		return nil
	})
}

// ParseUnpackCall reads an UnpackCall.
func ParseUnpackCall(b []byte) (*guestv1.UnpackCall, error) {
	m := &guestv1.UnpackCall{}
	return m, walk(b, func(f field) error {
		switch f.num {
		case 1:
			return f.text(&m.Path)
		case 2:
			return f.text(&m.User)
		case 3:
			f.flag(&m.Preserve)
		}
		return nil
	})
}

// AppendFileAnswer appends m to b.
func AppendFileAnswer(b []byte, m *guestv1.FileAnswer) []byte {
	for _, e := range m.Entries {
		b = appendMessage(b, 1, appendEntry(nil, e))
	}
	return appendFlag(b, 2, m.More)
}

func appendEntry(b []byte, m *guestv1.FileEntry) []byte {
	b = appendRaw(b, 1, m.Name)
	b = appendNumber(b, 2, uint64(m.Type))
	b = appendNumber(b, 3, uint64(m.Size))
	b = appendNumber(b, 4, uint64(m.Mode))
	b = appendText(b, 5, m.Owner)
	b = appendText(b, 6, m.Group)
	b = appendNumber(b, 7, protowire.EncodeZigZag(m.ModifiedUnixNano))
	return appendRaw(b, 8, m.Target)
}

// AppendWatchFilesEvent appends m to b.
func AppendWatchFilesEvent(b []byte, m *guestv1.WatchFilesEvent) []byte {
	return appendRaw(appendNumber(b, 1, uint64(m.Kind)), 2, m.Name)
}
