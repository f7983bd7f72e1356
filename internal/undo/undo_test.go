package undo_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/undo"
)

func TestRunIsReverseAndComplete(t *testing.T) {
	var s undo.Stack
	var got []string
	for _, name := range []string{"a", "b", "c"} {
		_ = s.Push(name, func(context.Context) error {
			got = append(got, name)
			if name == "b" {
				return errors.New("broken")
			}
			return nil
		})
	}
	err := s.Run(t.Context())
	if !slices.Equal(got, []string{"c", "b", "a"}) {
		t.Fatalf("ran %v, want c b a", got)
	}
	if err == nil || !strings.Contains(err.Error(), "undo b") {
		t.Fatalf("error %v does not name step b", err)
	}
	if err := s.Run(t.Context()); err != nil || len(got) != 3 {
		t.Fatalf("second Run did something: %v %v", err, got)
	}
}

func TestPushAfterRunRunsAtOnce(t *testing.T) {
	var s undo.Stack
	_ = s.Run(t.Context())
	ran := false
	_ = s.Push("late", func(context.Context) error { ran = true; return nil })
	if !ran {
		t.Fatal("a compensation pushed after Run was lost")
	}
}
