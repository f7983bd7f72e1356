package cli

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"sync"
	"time"
)

// Times after which a transfer shows its progress, and between two reports. A report on
// a terminal replaces the one before; elsewhere it is a line of its own.
const (
	progressAfter = time.Second
	progressEvery = 250 * time.Millisecond
	linesAfter    = 3 * time.Second
	linesEvery    = 10 * time.Second
)

// unknownSize is the size of a transfer that is not known beforehand.
const unknownSize = -1

// progressReader reports on stderr how many bytes have been read of r. Reads may come
// from another goroutine than the other calls, and also after end.
type progressReader struct {
	r            io.Reader
	out          io.Writer // nil reports nothing
	terminal     bool
	after, every time.Duration

	mu          sync.Mutex // protects the following
	begun, last time.Time
	n, total    int64 // total is unknownSize or the size
	shown       bool  // a report is on the terminal
}

// progress returns r, whose progress is reported. total is the number of bytes to come, or
// unknownSize.
func (a *App) progress(r io.Reader, total int64) *progressReader {
	p := &progressReader{
		r: r, begun: time.Now(), total: total, terminal: a.io.Progress, after: linesAfter, every: linesEvery,
	}
	if p.terminal {
		p.after, p.every = progressAfter, progressEvery
	}
	// The reader of JSON wants no lines between.
	if !a.quiet && (p.terminal || !a.json) {
		p.out = a.io.Err
	}
	return p
}

// Read implements io.Reader.
func (p *progressReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n += int64(n)
	if now := time.Now(); p.out != nil && now.Sub(p.begun) > p.after && now.Sub(p.last) > p.every {
		p.last = now
		p.report(now.Sub(p.begun))
	}
	return n, err
}

// report writes the progress after the time took. The caller holds mu.
func (p *progressReader) report(took time.Duration) {
	text := showProgress(p.n, p.total, took)
	if !p.terminal {
		fmt.Fprintln(p.out, text)
		return
	}
	p.shown = true
	fmt.Fprint(p.out, "\r\x1b[K", text)
}

// showProgress shows that n of total bytes have been transferred within the time took,
// and the time that the rest takes at that rate.
func showProgress(n, total int64, took time.Duration) string {
	text := showBytes(n)
	if total >= n {
		text += " of " + showBytes(total)
	}
	rate := float64(n) / took.Seconds()
	text += fmt.Sprintf(", %s/s", showBytes(int64(rate)))
	if total > n && rate > 0 {
		// A rest of years at a rate near zero would overflow a Duration.
		left := math.Ceil(min(float64(total-n)/rate, (100 * time.Hour).Seconds()))
		text += fmt.Sprintf(", %s left", time.Duration(left)*time.Second)
	}
	return text
}

// count returns the number of bytes that have been read.
func (p *progressReader) count() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.n
}

// end removes the report from the terminal and writes no further ones.
func (p *progressReader) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shown {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
	p.out, p.shown = nil, false
}

// packBar shows on a terminal how much of a directory is packed.
type packBar struct{ progressReader }

// packProgress returns a bar, which shows nothing if quiet is set.
func (a *App) packProgress(quiet bool) *packBar {
	b := &packBar{}
	if b.begun = time.Now(); a.io.Progress && !quiet {
		b.out = a.io.Err
	}
	return b
}

// show shows that n bytes are packed.
func (b *packBar) show(n int64) {
	if now := time.Now(); b.out != nil && now.Sub(b.begun) > progressAfter && now.Sub(b.last) > progressEvery {
		b.last, b.shown = now, true
		fmt.Fprintf(b.out, "\r\x1b[Kpacking the context: %s", showBytes(n))
	}
}

func octal(n uint32) string { return strconv.FormatUint(uint64(n), 8) }
