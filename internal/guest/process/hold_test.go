package process

import (
	"context"
	"testing"
)

// slowGroups are groups that are made when the test says so.
type slowGroups struct{ asked, made chan struct{} }

func (g slowGroups) NewGroup(string) (Group, error) {
	g.asked <- struct{}{}
	<-g.made
	return noGroup{}, nil
}

// TestHoldKeepsCommandsFromStarting: Hold waits for the start under way, and a start
// that comes later waits for Continue.
func TestHoldKeepsCommandsFromStarting(t *testing.T) {
	groups := slowGroups{make(chan struct{}), make(chan struct{})}
	table := NewTable(groups)
	started := make(chan error)
	run := func() {
		_, _, err := table.Start(command("/", "true"))
		started <- err
	}
	go run()
	<-groups.asked
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := table.Hold(ended); err == nil {
		t.Fatal("held while a command was being started")
	}
	groups.made <- struct{}{}
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	for range 2 { // it is idempotent
		if err := table.Hold(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if table.starts.TryAcquire(1) {
		t.Error("a command can be started during a hold")
	}
	go run()
	for range 2 {
		table.Continue()
	}
	<-groups.asked
	groups.made <- struct{}{}
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	if err := table.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}
