package templates

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
)

// logStore keeps the messages of a log. It blocks each write until released, and fails while
// failing is set.
type logStore struct {
	began, release chan struct{}

	mu       sync.Mutex
	failing  bool
	messages []string
}

func newLogStore() *logStore {
	return &logStore{began: make(chan struct{}, 1000), release: make(chan struct{})}
}

func (s *logStore) append(_ context.Context, _ BuildID, entries []LogEntry) error {
	s.began <- struct{}{}
	<-s.release
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failing {
		return errors.New("the store is away")
	}
	for _, e := range entries {
		s.messages = append(s.messages, e.Message)
	}
	return nil
}

func (s *logStore) fail(v bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failing = v
}

func (l *buildLog) pending() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.entries)
}

// TestLogOfAFailingStore adds many lines while nothing can be stored.
func TestLogOfAFailingStore(t *testing.T) {
	store := newLogStore()
	store.fail(true)
	close(store.release)
	l := newBuildLog("b", store.append, func() {}, nil)
	const lines = 10 * maxPending
	for i := range lines {
		l.add("info", "1", "line %d", i)
		if n := l.pending(); n > maxPending {
			t.Fatalf("%d entries wait, want at most %d", n, maxPending)
		}
	}
	store.fail(false)
	l.sync()
	l.add("info", "1", "the end")
	l.close()
	n := len(store.messages)
	if n < 3 || store.messages[n-1] != "the end" {
		t.Fatalf("%d messages, the last of which is not the last line", n)
	}
	var left int
	if _, err := fmt.Sscanf(store.messages[n-2], "%d lines of the log are left out", &left); err != nil {
		t.Errorf("the message after the kept lines is %q, want the number of the lines that are left out", store.messages[n-2])
	}
	if n-2+left != lines {
		t.Errorf("%d lines are kept and %d are left out, want %d together", n-2, left, lines)
	}
	for i, m := range store.messages[:n-2] {
		if m != fmt.Sprintf("line %d", i) {
			t.Fatalf("message %d is %q, want the order kept", i, m)
		}
	}
}

// TestLogWaitsForTheStore adds more lines than may wait while a write lasts. None is lost, and a
// sync meanwhile keeps the order.
func TestLogWaitsForTheStore(t *testing.T) {
	store := newLogStore()
	l := newBuildLog("b", store.append, func() {}, nil)
	const lines = 3 * maxPending
	added := make(chan struct{})
	go func() {
		defer close(added)
		for i := range lines {
			l.add("info", "1", "line %d", i)
			if i%500 == 0 {
				l.sync()
			}
		}
	}()
	<-store.began
	if n := l.pending(); n > maxPending {
		t.Errorf("%d entries wait, want at most %d", n, maxPending)
	}
	close(store.release)
	<-added
	l.close()
	if len(store.messages) != lines {
		t.Fatalf("%d messages were stored, want %d", len(store.messages), lines)
	}
	for i, m := range store.messages {
		if m != fmt.Sprintf("line %d", i) {
			t.Fatalf("message %d is %q, want the order kept", i, m)
		}
	}
}

// TestSecretsOfSeveralLines prints secrets whose lines end in all ways.
func TestSecretsOfSeveralLines(t *testing.T) {
	store := newLogStore()
	close(store.release)
	secrets := map[string][]byte{
		"cr": []byte("first-part\rsecond-part\r"), "crlf": []byte("third-part\r\nfourth-part"), "short": []byte("ab\ncd"), "lf": []byte("\n fifth-part \n"),
		"long": []byte("fifth-part-and-more"),
	}
	l := newBuildLog("b", store.append, func() {}, secrets)
	out := l.output("info", "1")
	for _, value := range secrets {
		_, _ = out.Write(append(value, '\n'))
		l.add("info", "1", "it is %s", value)
	}
	out.flush()
	l.close()
	all := strings.Join(store.messages, "\n")
	for _, part := range []string{"first", "second", "third", "fourth", "fifth", "more"} {
		if strings.Contains(all, part) {
			t.Errorf("the log shows %q of a secret:\n%s", part, all)
		}
	}
}
