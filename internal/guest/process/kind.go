package process

// Kind is the stream that output came from.
type Kind uint8

// The kinds of output. Dropped stands for output that the journal no longer has.
const (
	Stdout Kind = iota + 1
	Stderr
	Terminal
	Dropped
)

// Output is one piece of a command's output.
type Output struct {
	Kind Kind
	// Offset is the number of bytes of output, of all streams together, before this piece.
	Offset int64
	// Data is empty for Dropped.
	Data []byte
	// Bytes is the length of the piece, also of a dropped one.
	Bytes int64
}
