package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/test/kvm/plan"
)

// quietLimit is how long the output may be silent before the last line is
// repeated: a reader of the log must see that the machine still runs.
const quietLimit = 30 * time.Second

// progress writes the lines of a console with the seconds since the start.
type progress struct {
	began time.Time

	mu   sync.Mutex // protects the following
	show io.Writer
	last string    // the last line that was not empty
	at   time.Time // the time of the last output
}

// print shows one line of the console.
func (p *progress) print(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if line != "" {
		p.last = line
	}
	p.write(line)
}

// write must be called with mu held.
func (p *progress) write(line string) {
	p.at = time.Now()
	fmt.Fprintf(p.show, "[%4.0f s] %s\n", time.Since(p.began).Seconds(), line)
}

// repeat shows the last line again whenever there was no output for quietLimit,
// until done is closed.
func (p *progress) repeat(done <-chan struct{}) {
	tick := time.NewTicker(quietLimit / 6)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-done:
			return
		}
		p.mu.Lock()
		if time.Since(p.at) >= quietLimit {
			p.write("  still running; the last line was: " + p.last)
		}
		p.mu.Unlock()
	}
}

// follow shows every line of the console with the seconds since the start. At the
// end of the console it returns the result of the plan, or nil if there was none.
func follow(console io.Reader, show io.Writer) (result func() error) {
	p := &progress{began: time.Now(), show: show, at: time.Now(), last: "(none)"}
	done := make(chan struct{})
	var repeating sync.WaitGroup
	repeating.Go(func() { p.repeat(done) })
	defer repeating.Wait()
	defer close(done)
	lines := bufio.NewReaderSize(console, 64<<10)
	for {
		raw, _, err := lines.ReadLine() // a longer line comes in pieces, which is good enough
		if err != nil {
			return result
		}
		line := strings.TrimRight(string(raw), "\r")
		p.print(line)
		if step, ok := strings.CutPrefix(line, plan.Result); ok {
			result = func() error { return judge(step) }
		}
	}
}
