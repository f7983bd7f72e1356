package guestclient_test

import (
	"testing"

	"github.com/wrenn-dev/wrenn/internal/guestclient"
)

// BenchmarkPing measures one round trip of the control channel.
func BenchmarkPing(b *testing.B) {
	c := newClient(b)
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Ping(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkExec measures a command from the call to its exit status.
func BenchmarkExec(b *testing.B) {
	c := newClient(b)
	b.ReportAllocs()
	for b.Loop() {
		s, err := c.Start(b.Context(), shell("exit 0"), guestclient.StartOptions{})
		if err != nil {
			b.Fatal(err)
		}
		if _, end, _ := drain(s); end.GetExitCode() != 0 {
			b.Fatalf("exec: exit code %d", end.GetExitCode())
		}
		_ = s.Close()
	}
}
