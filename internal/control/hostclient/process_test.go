package hostclient_test

import (
	"context"
	"testing"
	"time"

	"connectrpc.com/connect"

	hostv1 "github.com/wrenn-dev/wrenn/api/gen/host/v1"
	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

func (a *agent) CallProcess(_ context.Context, r *connect.Request[hostv1.CallProcessRequest]) (*connect.Response[hostv1.CallProcessResponse], error) {
	a.asked = append(a.asked, r.Msg)
	answer := &guestv1.ProcessAnswer{Processes: []*guestv1.ProcessRecord{{Id: "p"}}, Commands: []*guestv1.ProcessRecord{{Cmd: "ls"}}}
	return connect.NewResponse(&hostv1.CallProcessResponse{Answer: answer}), nil
}

// TestListOfCommands: the commands without an id are in a list that asks for them.
func TestListOfCommands(t *testing.T) {
	a := &agent{}
	c, _ := connectTo(t, a)
	for _, ask := range []bool{false, true} {
		list, err := c.CallProcess(t.Context(), sandbox.Ref{ID: "s"}, control.ProcessList{Commands: ask})
		if err != nil || len(list) != map[bool]int{false: 1, true: 2}[ask] || list[0].ID != "p" {
			t.Errorf("commands %t: %+v, %v", ask, list, err)
		}
		if ask && (list[1].ID != "" || list[1].Cmd != "ls") {
			t.Errorf("the command is %+v", list[1])
		}
		if got := a.asked[len(a.asked)-1].(*hostv1.CallProcessRequest).GetCall().GetList().GetCommands(); got != ask {
			t.Errorf("the host was asked for commands: %t, want %t", got, ask)
		}
	}
}

// TestStartAgainCrosses: only the start command of a template is to be started again.
func TestStartAgainCrosses(t *testing.T) {
	a := &agent{}
	c, _ := connectTo(t, a)
	for _, again := range []*control.StartAgain{nil, {Ready: []string{"test", "-e", "/ready"}, Timeout: time.Minute}} {
		start := control.ProcessStart{ID: "p", Command: control.Exec{Cmd: "serve"}, Again: again}
		if _, err := c.CallProcess(t.Context(), sandbox.Ref{ID: "s"}, start); err != nil {
			t.Fatal(err)
		}
		got := a.asked[len(a.asked)-1].(*hostv1.CallProcessRequest).GetStartAgain()
		if (got == nil) != (again == nil) || again != nil && (len(got.GetReady()) != 3 || got.GetReadyTimeoutSec() != 60) {
			t.Errorf("start again %+v: sent %v", again, got)
		}
	}
}
