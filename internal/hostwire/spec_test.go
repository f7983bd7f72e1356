package hostwire_test

import (
	"fmt"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wrenn-dev/wrenn/internal/hostwire"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestSpecCrosses fills every field of a spec by reflection, converts the spec
// there and back, and expects every field but those that
// hosts ignore.
func TestSpecCrosses(t *testing.T) {
	var spec sandbox.Spec
	v := reflect.ValueOf(&spec).Elem()
	for i := range v.NumField() {
		switch f := v.Field(i); f.Kind() {
		case reflect.String:
			f.SetString(fmt.Sprintf("text%d", i))
		case reflect.Int:
			f.SetInt(int64(100 + i))
		case reflect.Int64:
			f.SetInt(int64(100+i) * int64(time.Second))
		case reflect.Bool:
			f.SetBool(true)
		case reflect.Map:
			f.Set(reflect.ValueOf(map[string]string{"key": "value"}))
		case reflect.Slice:
			f.Set(reflect.ValueOf([]int{80}))
		case reflect.Struct:
			f.Set(reflect.ValueOf(sandbox.Egress{
				Deny: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}, Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
			}))
		default:
			t.Fatalf("Spec.%s has a type that this test does not fill", v.Type().Field(i).Name)
		}
	}
	want := spec
	want.AutoResume, want.PublicPorts, want.TrafficKey, want.PublicTraffic, want.RequestHost = false, nil, "", false, ""
	want.HTTPSPorts = nil
	want.InitialLifetime, want.TemplateID, want.TemplateRef = 0, "", ""
	if diff := cmp.Diff(want, hostwire.SpecFromProto(hostwire.SpecToProto(spec))); diff != "" {
		t.Error(diff)
	}
	if got := hostwire.SpecToProto(sandbox.Spec{Timeout: time.Millisecond}).GetTimeoutSec(); got != 1 {
		t.Errorf("a millisecond is sent as %d s, want 1 s: 0 means never", got)
	}
}
