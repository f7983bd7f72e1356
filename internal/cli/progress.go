package cli

import (
	"fmt"
	"io"
	"strconv"
	"time"
)

const (
	// progressAfter is how long a transfer takes before it is shown, and progressEvery
	// the time between two lines.
	progressAfter = time.Second
	progressEvery = 250 * time.Millisecond
)

// progressReader shows on a terminal how many bytes have been read of r.
type progressReader struct {
	r           io.Reader
	out         io.Writer // nil shows nothing
	begun, last time.Time
	n           int64
	of          int64 // the size of the whole, 0 if it is not known
	shown       bool
}

// progress returns r, of which the terminal shows how much has been read.
func (a *App) progress(r io.Reader) *progressReader {
	p := &progressReader{r: r, begun: time.Now()}
	if a.io.Progress {
		p.out = a.io.Err
	}
	return p
}

// Read implements io.Reader.
func (p *progressReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.n += int64(n)
	if now := time.Now(); p.out != nil && now.Sub(p.begun) > progressAfter && now.Sub(p.last) > progressEvery {
		p.last, p.shown = now, true
		rate := float64(p.n) / now.Sub(p.begun).Seconds()
		whole := ""
		if p.of > 0 {
			whole = " of " + showBytes(p.of)
		}
		fmt.Fprintf(p.out, "\r\x1b[K%s%s, %s/s", showBytes(p.n), whole, showBytes(int64(rate)))
	}
	return n, err
}

// end removes the line.
func (p *progressReader) end() {
	if p.shown {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}

// packBar shows on a terminal how much of a directory is packed.
type packBar struct{ progressReader }

// packProgress returns a bar, which shows nothing if quiet is set.
func (a *App) packProgress(quiet bool) *packBar {
	b := &packBar{*a.progress(nil)}
	if quiet {
		b.out = nil
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
