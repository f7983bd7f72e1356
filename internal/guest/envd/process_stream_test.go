package envd

import (
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	pb "github.com/wrenn-dev/wrenn/api/gen/process"
)

// TestPublicEventsHaveOnlyTheFieldsOfTheProtocol: its clients can refuse others.
func TestPublicEventsHaveOnlyTheFieldsOfTheProtocol(t *testing.T) {
	text := "signal: killed: the sandbox ran out of memory"
	e := &pb.ProcessEvent{Event: &pb.ProcessEvent_End{End: &pb.ProcessEvent_EndEvent{ExitCode: -1, Oom: true, Error: &text}}}
	sent := public(e)
	if end := sent.GetEnd(); end.GetOom() || end.GetError() != text || end.GetExitCode() != -1 {
		got, _ := protojson.Marshal(sent)
		t.Errorf("sent %s, want the end without the field oom", got)
	}
	if start := public(&pb.ProcessEvent{Event: &pb.ProcessEvent_Start{Start: &pb.ProcessEvent_StartEvent{Pid: 1}}}); start.GetStart().GetPid() != 1 {
		t.Error("another event was changed")
	}
}
