package hostclient

import (
	"fmt"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	hostv1 "github.com/wrenn-dev/wrenn/api/gen/host/v1"
	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestProcessThatABootHasEnded: the mark of the host and the signal reach the control plane.
func TestProcessThatABootHasEnded(t *testing.T) {
	p := processOf(&guestv1.ProcessRecord{Id: "p", EndedUnixNano: 1, Signal: 9, Rebooted: true})
	if e := p.Exit; e == nil || !e.Rebooted || e.Code != 137 || e.Signal != "killed" {
		t.Errorf("exit %+v, want one by a boot with code 137 and the signal killed", p.Exit)
	}
}

// fillAny sets every field of the struct at v, however deep, to something that is
// not its zero value. Times and durations are whole seconds.
func fillAny(v reflect.Value) {
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(time.Unix(1700000000, 0).UTC()))
		return
	case time.Duration:
		v.SetInt(int64(7 * time.Second))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fillAny(v.Field(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillAny(v.Elem())
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fillAny(key)
		fillAny(value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fillAny(v.Index(0))
	case reflect.Interface: // a stream, which is not data
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64, reflect.Int32:
		v.SetInt(5)
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		v.SetUint(5)
	default:
		panic(fmt.Sprintf("fillAny cannot do %s", v.Type()))
	}
}

// empty returns the paths of all fields below v that are zero.
func empty(path string, v reflect.Value) []string {
	if v.IsZero() {
		return []string{path}
	}
	var out []string
	if _, isTime := v.Interface().(time.Time); v.Kind() == reflect.Struct && !isTime {
		for i := range v.NumField() {
			out = append(out, empty(path+"."+v.Type().Field(i).Name, v.Field(i))...)
		}
	}
	return out
}

// fillProto sets every field of m, however deep.
func fillProto(m protoreflect.Message) {
	scalar := func(f protoreflect.FieldDescriptor) protoreflect.Value {
		switch f.Kind() {
		case protoreflect.StringKind:
			return protoreflect.ValueOfString("text")
		case protoreflect.BoolKind:
			return protoreflect.ValueOfBool(true)
		case protoreflect.Uint32Kind:
			return protoreflect.ValueOfUint32(5)
		case protoreflect.Uint64Kind:
			return protoreflect.ValueOfUint64(5)
		case protoreflect.Int64Kind:
			return protoreflect.ValueOfInt64(5)
		case protoreflect.Int32Kind:
			return protoreflect.ValueOfInt32(5)
		case protoreflect.DoubleKind:
			return protoreflect.ValueOfFloat64(0.5)
		case protoreflect.EnumKind:
			return protoreflect.ValueOfEnum(2)
		default:
			panic("fillProto cannot do " + f.FullName())
		}
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		switch {
		case f.IsMap():
			m.Mutable(f).Map().Set(scalar(f.MapKey()).MapKey(), scalar(f.MapValue()))
		case f.IsList() && f.Kind() == protoreflect.MessageKind:
			list := m.Mutable(f).List()
			fillProto(list.AppendMutable().Message())
		case f.IsList():
			m.Mutable(f).List().Append(scalar(f))
		case f.Kind() == protoreflect.MessageKind:
			fillProto(m.Mutable(f).Message())
		default:
			m.Set(f, scalar(f))
		}
	}
}

// unset returns the names of the fields of m that are not set.
func unset(m protoreflect.Message) []string {
	var out []string
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if !m.Has(f) {
			out = append(out, string(f.FullName()))
		} else if f.Kind() == protoreflect.MessageKind && !f.IsMap() && !f.IsList() {
			out = append(out, unset(m.Get(f).Message())...)
		}
	}
	return out
}

func TestRefThereAndBack(t *testing.T) {
	ref := sandbox.Ref{ID: "a", Generation: 3}
	if got := refFromProto(refToProto(ref)); got != ref {
		t.Errorf("%+v", got)
	}
}

// fillControl sets the fields of a spec that no host gets.
func fillControl(s *sandbox.Spec) {
	s.AutoResume, s.PublicPorts, s.TrafficKey, s.PublicTraffic, s.RequestHost = true, []int{80}, "key", true, "name"
	s.HTTPSPorts = []int{443}
	s.InitialLifetime, s.TemplateID, s.TemplateRef = time.Hour, "template", "name:tag"
}

func TestViewTakesEveryField(t *testing.T) {
	var msg hostv1.Sandbox
	fillProto(msg.ProtoReflect())
	observed := observedFromProto(&msg)
	fillControl(&observed.Spec)
	if e := empty("ObservedSandbox", reflect.ValueOf(observed)); len(e) > 0 {
		t.Errorf("empty: %v", e)
	}
	observed = observedFromProto(&msg)
	// Every field of the message is in the observed state: clearing one changes the observed state.
	fields := msg.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		less := proto.CloneOf(&msg)
		less.ProtoReflect().Clear(fields.Get(i))
		if cmp.Equal(observed, observedFromProto(less)) {
			t.Errorf("%s is lost", fields.Get(i).FullName())
		}
	}
}

func TestInfoTakesEveryField(t *testing.T) {
	var msg hostv1.GetHostResponse
	fillProto(msg.ProtoReflect())
	info := infoFromProto(&msg)
	info.Reachable, info.SeenAt = true, time.Now() // the fleet's
	if e := empty("HostInfo", reflect.ValueOf(info)); len(e) > 0 {
		t.Errorf("empty: %v", e)
	}
	fields := msg.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		whole := proto.CloneOf(&msg)
		if n := fields.Get(i).Number(); n >= 4 && n <= 9 {
			whole.Runtimes = nil // an agent that names no runtimes
		}
		less := proto.CloneOf(whole)
		less.ProtoReflect().Clear(fields.Get(i))
		if cmp.Equal(infoFromProto(whole), infoFromProto(less)) {
			t.Errorf("%s is lost", fields.Get(i).FullName())
		}
	}
}

func TestRuntimeTakesEveryField(t *testing.T) {
	var msg hostv1.Runtime
	fillProto(msg.ProtoReflect())
	takesEveryField(t, &msg, runtimeFromProto)
}

func TestSnapshotTakesEveryField(t *testing.T) {
	var msg hostv1.Snapshot
	fillProto(msg.ProtoReflect())
	takesEveryField(t, &msg, func(m *hostv1.Snapshot) control.ObservedSnapshot {
		v := snapshotFromProto(m)
		fillControl(&v.Spec)
		return v
	})
}

func TestGarbageTakesEveryField(t *testing.T) {
	var msg hostv1.CollectGarbageResponse_Item
	fillProto(msg.ProtoReflect())
	takesEveryField(t, &msg, func(m *hostv1.CollectGarbageResponse_Item) control.Garbage {
		g := garbageFromProto(m)
		g.HostID = "the caller's"
		return g
	})
}

func TestPoolsTakeEveryField(t *testing.T) {
	var msg hostv1.Pool
	fillProto(msg.ProtoReflect())
	takesEveryField(t, &msg, func(m *hostv1.Pool) control.Pool { return poolsFromProto([]*hostv1.Pool{m})[0] })
}

func TestRestoreReportTakesEveryField(t *testing.T) {
	var msg hostv1.RestoreReport
	fillProto(msg.ProtoReflect())
	takesEveryField(t, &msg, func(m *hostv1.RestoreReport) sandbox.RestoreReport { return *restoreReportFromProto(m) })
}

// takesEveryField checks that convert fills its result from a message that is
// full, and that clearing any field of the message shows in it.
func takesEveryField[M proto.Message, V any](t *testing.T, msg M, convert func(M) V) {
	t.Helper()
	full := convert(msg)
	if e := empty(fmt.Sprintf("%T", full), reflect.ValueOf(full)); len(e) > 0 {
		t.Errorf("empty: %v", e)
	}
	fields := msg.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		less := proto.CloneOf(msg)
		less.ProtoReflect().Clear(fields.Get(i))
		if cmp.Equal(full, convert(less)) {
			t.Errorf("%s is lost", fields.Get(i).FullName())
		}
	}
}

func TestTimeoutsTakeEveryField(t *testing.T) {
	var change control.TimeoutChange
	fillAny(reflect.ValueOf(&change).Elem())
	msg := timeoutsToProto(sandbox.Ref{ID: "a", Generation: 1}, change)
	if u := unset(msg.ProtoReflect()); len(u) > 0 {
		t.Errorf("not set: %v", u)
	}
	if msg.GetTimeoutSec() != 7 || msg.GetLifetimeSec() != 7 || msg.GetOnTimeout() != "text" {
		t.Errorf("%v", msg)
	}
	none := timeoutsToProto(sandbox.Ref{}, control.TimeoutChange{})
	if none.TimeoutSec != nil || none.LifetimeSec != nil || none.OnTimeout != nil {
		t.Errorf("%v: what stays must not be set", none)
	}
}

func TestEveryStateHasAView(t *testing.T) {
	seen := make(map[control.VMState]bool)
	for n := range hostv1.SandboxState_name {
		state := hostv1.SandboxState(n)
		if state == hostv1.SandboxState_SANDBOX_STATE_UNSPECIFIED {
			continue
		}
		v, ok := vmStateOf[state]
		if !ok || seen[v] {
			t.Errorf("%s has no observed state of its own", state)
		}
		seen[v] = true
	}
	for _, v := range control.VMStates() {
		if !seen[v] {
			t.Errorf("no state of the protocol is %s", v)
		}
	}
}

func TestExecTakesEveryField(t *testing.T) {
	var e control.Exec
	fillAny(reflect.ValueOf(&e).Elem())
	req := execToProto(sandbox.Ref{ID: "a", Generation: 1}, e)
	p := req.GetStart().GetProcess()
	want := control.Exec{
		Cmd: p.GetCmd(), Args: p.GetArgs(), Env: p.GetEnvs(), Cwd: p.GetCwd(), User: req.GetUser(),
		Timeout: time.Duration(req.GetTimeoutMs()) * time.Millisecond,
		Stdin:   req.GetStdin(),
	}
	if diff := cmp.Diff(e, want); diff != "" {
		t.Error(diff)
	}
	if !req.GetStart().GetStdin() {
		t.Error("stdin must be open for what is given to it")
	}
	if none := execToProto(sandbox.Ref{}, control.Exec{}).GetStart(); none.Stdin == nil || none.GetStdin() {
		t.Error("stdin must be said to be closed: absent means open")
	}
}

// TestMemoryShareIsBounded: a host cannot report a share that placement overflows with,
// or that the list of hosts cannot be encoded with.
func TestMemoryShareIsBounded(t *testing.T) {
	for reported, want := range map[float64]float64{0: 0, 0.25: 0.25, 1: 1, -1: 0, 1e300: 1024, math.Inf(1): 1024, math.Inf(-1): 0, math.NaN(): 0} {
		got := runtimeFromProto(&hostv1.Runtime{DiskMemoryShare: reported}).DiskMemoryShare
		if got != want {
			t.Errorf("a reported share of %v: got %v, want %v", reported, got, want)
		}
	}
}
