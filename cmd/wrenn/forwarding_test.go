package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestForwardingIsAsItWas(t *testing.T) {
	for _, c := range []struct {
		name, before, after string
		restored            bool
	}{
		{"off before", "0\n", "0\n", true},
		{"on before", "1\n", "1\n", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			f := forwarding{filepath.Join(dir, "switch"), filepath.Join(dir, "was-off")}
			write := func(text string) {
				t.Helper()
				if err := os.WriteFile(f.position, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write(c.before)
			for range 2 { // the agent's second start finds forwarding on
				if err := f.remember(); err != nil {
					t.Fatal(err)
				}
				write("1\n")
			}
			restored, err := f.restore()
			if err != nil || restored != c.restored {
				t.Errorf("restore: got %t, %v, want %t", restored, err, c.restored)
			}
			if got, _ := os.ReadFile(f.position); string(got) != c.after {
				t.Errorf("forwarding is %q, want %q", got, c.after)
			}
			if again, err := f.restore(); again || err != nil {
				t.Errorf("a second restore: got %t, %v, want nothing", again, err)
			}
		})
	}
}
