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
		fmt.Fprintf(p.out, "\r\x1b[K%s, %s/s", showBytes(p.n), showBytes(int64(rate)))
	}
	return n, err
}

// end removes the line.
func (p *progressReader) end() {
	if p.shown {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}

func octal(n uint32) string { return strconv.FormatUint(uint64(n), 8) }
