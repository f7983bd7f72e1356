package guestwire

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/wrenn-dev/wrenn/api/gen/process"
	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
)

// fill sets fields of m at random: some stay absent, some are zero.
func fill(r *rand.Rand, m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if r.IntN(4) == 0 {
			continue
		}
		switch {
		case f.IsMap():
			entries := m.Mutable(f).Map()
			for range r.IntN(4) {
				entries.Set(scalar(r, f.MapKey()).MapKey(), scalar(r, f.MapValue()))
			}
		case f.IsList():
			list := m.Mutable(f).List()
			for range r.IntN(4) {
				if f.Kind() == protoreflect.MessageKind {
					fill(r, list.AppendMutable().Message())
				} else {
					list.Append(scalar(r, f))
				}
			}
		case f.Kind() == protoreflect.MessageKind:
			fill(r, m.Mutable(f).Message())
		default:
			m.Set(f, scalar(r, f))
		}
	}
}

func scalar(r *rand.Rand, f protoreflect.FieldDescriptor) protoreflect.Value {
	text := strings.Repeat("aé\x00=", r.IntN(40))
	switch f.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(text)
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(text + "\xff"))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(r.IntN(2) == 0)
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(r.Uint32() >> r.IntN(33))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(r.Uint64() >> r.IntN(65))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind:
		return protoreflect.ValueOfInt64(int64(r.Uint64()) >> r.IntN(64))
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(r.IntN(f.Enum().Values().Len())))
	case protoreflect.Sint32Kind:
		return protoreflect.ValueOfInt32(int32(r.Uint32()) >> r.IntN(32))
	}
	panic("a kind of field that this test does not know: " + f.Kind().String())
}

// parsers are the messages that the guest reads.
var parsers = map[proto.Message]func([]byte) (proto.Message, error){
	&guestv1.ConfigureRequest{}: func(b []byte) (proto.Message, error) { return ParseConfigureRequest(b) },
	&guestv1.QuiesceRequest{}:   func(b []byte) (proto.Message, error) { return ParseQuiesceRequest(b) },
	&guestv1.HoldRequest{}:      func(b []byte) (proto.Message, error) { return ParseHoldRequest(b) },
	&guestv1.ExecCall{}:         func(b []byte) (proto.Message, error) { return ParseExecCall(b) },
	&guestv1.InputCall{}:        func(b []byte) (proto.Message, error) { return ParseInputCall(b) },
	&guestv1.DialCall{}:         func(b []byte) (proto.Message, error) { return ParseDialCall(b) },
	&guestv1.KillCall{}:         func(b []byte) (proto.Message, error) { return ParseKillCall(b) },
	&guestv1.WriteFileCall{}:    func(b []byte) (proto.Message, error) { return ParseWriteFileCall(b) },
	&guestv1.ReadFileCall{}:     func(b []byte) (proto.Message, error) { return ParseReadFileCall(b) },
	&guestv1.ProcessCall{}:      func(b []byte) (proto.Message, error) { return ParseProcessCall(b) },
	&guestv1.FileCall{}:         func(b []byte) (proto.Message, error) { return ParseFileCall(b) },
	&guestv1.WatchFilesCall{}:   func(b []byte) (proto.Message, error) { return ParseWatchFilesCall(b) },
	&guestv1.PackCall{}:         func(b []byte) (proto.Message, error) { return ParsePackCall(b) },
	&guestv1.UnpackCall{}:       func(b []byte) (proto.Message, error) { return ParseUnpackCall(b) },
	&guestv1.AttachCall{}:       func(b []byte) (proto.Message, error) { return ParseAttachCall(b) },
}

// TestParsersAgreeWithProtobuf: a field that the contract gains and a parser
// does not know fails here.
func TestParsersAgreeWithProtobuf(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for empty, parse := range parsers {
		for range 300 {
			want := proto.Clone(empty)
			fill(r, want.ProtoReflect())
			b, err := proto.Marshal(want)
			if err != nil {
				t.Fatal(err)
			}
			got, err := parse(b)
			if err != nil || !proto.Equal(got, want) {
				t.Fatalf("got %v, %v; want %v", got, err, want)
			}
		}
	}
}

// TestAnswersAgreeWithProtobuf is the same for messages of the guest.
func TestAnswersAgreeWithProtobuf(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	encoders := map[proto.Message]func(proto.Message) []byte{
		&guestv1.ConfigureResponse{}: func(m proto.Message) []byte {
			return AppendConfigureResponse(nil, m.(*guestv1.ConfigureResponse))
		},
		&guestv1.QuiesceResponse{}: func(m proto.Message) []byte { return AppendQuiesceResponse(nil, m.(*guestv1.QuiesceResponse)) },
		&guestv1.HoldResponse{}:    func(m proto.Message) []byte { return AppendHoldResponse(nil, m.(*guestv1.HoldResponse)) },
		&guestv1.FileInfo{}:        func(m proto.Message) []byte { return AppendFileInfo(nil, m.(*guestv1.FileInfo)) },
		&guestv1.Failure{}:         func(m proto.Message) []byte { return AppendFailure(nil, m.(*guestv1.Failure)) },
		&guestv1.ProcessAnswer{}:   func(m proto.Message) []byte { return AppendProcessAnswer(nil, m.(*guestv1.ProcessAnswer)) },
		&guestv1.FileAnswer{}:      func(m proto.Message) []byte { return AppendFileAnswer(nil, m.(*guestv1.FileAnswer)) },
		&guestv1.WatchFilesEvent{}: func(m proto.Message) []byte {
			return AppendWatchFilesEvent(nil, m.(*guestv1.WatchFilesEvent))
		},
		&guestv1.AttachEvent{}:  func(m proto.Message) []byte { return AppendAttachEvent(nil, m.(*guestv1.AttachEvent)) },
		&process.ProcessEvent{}: func(m proto.Message) []byte { return AppendEvent(nil, m.(*process.ProcessEvent)) },
	}
	for empty, encode := range encoders {
		for range 300 {
			want, got := proto.Clone(empty), proto.Clone(empty)
			fill(r, want.ProtoReflect())
			if err := proto.Unmarshal(encode(want), got); err != nil || !proto.Equal(got, want) {
				t.Fatalf("got %v, %v; want %v", got, err, want)
			}
		}
	}
}

// FuzzParsers: every parser ends on any bytes, and takes nothing for a
// message that protobuf does not.
func FuzzParsers(f *testing.F) {
	r := rand.New(rand.NewPCG(5, 6))
	for empty := range parsers {
		m := proto.Clone(empty)
		fill(r, m.ProtoReflect())
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for empty, parse := range parsers {
			got, err := parse(b)
			if err != nil {
				if !errors.Is(err, ErrMalformed) {
					t.Fatalf("an error of another kind: %v", err)
				}
				continue
			}
			want := proto.Clone(empty)
			if proto.Unmarshal(b, want) != nil {
				continue // unknown groups are not looked into here
			}
			want.ProtoReflect().SetUnknown(nil)
			if !proto.Equal(got, clean(want)) {
				t.Fatalf("got %v, want %v", got, want)
			}
		}
	})
}

// clean forgets the unknown fields of m and all below it.
func clean(m proto.Message) proto.Message {
	var walk func(m protoreflect.Message)
	walk = func(m protoreflect.Message) {
		m.SetUnknown(nil)
		m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			switch {
			case f.IsMap() || f.Kind() != protoreflect.MessageKind:
			case f.IsList():
				for i := range v.List().Len() {
					walk(v.List().Get(i).Message())
				}
			default:
				walk(v.Message())
			}
			return true
		})
	}
	walk(m.ProtoReflect())
	return m
}
