package rest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
)

// escapeFreely is the size, in bytes, up to which text is always sent as text.
// Longer text is sent as base64 if JSON's escapes would more than double it.
const escapeFreely = 2 * firstChunk

// encodingOf chooses the encoding of both streams: base64 when one of them is
// not UTF-8, or when escapes would make the answer much larger than the output.
func encodingOf(stdout, stderr *outputHead) string {
	for _, h := range []*outputHead{stdout, stderr} {
		if valid, _ := h.text(nil); !valid {
			return "base64"
		}
	}
	size := stdout.size + stderr.size
	if size > escapeFreely && stdout.escapedSize()+stderr.escapedSize() > 2*size {
		return "base64"
	}
	return "utf-8"
}

// writeOutput answers with v and the output in it. The JSON of v must end with
// closing, at the end of the object that the fields stdout and stderr belong
// to. Output is encoded in small pieces, so that an answer needs no memory
// besides the output itself. pace bounds each write, so that a client that does
// not read cannot hold the output's memory.
func writeOutput(w http.ResponseWriter, p pace, status int, v any, closing string, out *output) {
	defer p.end()
	start, err := json.Marshal(v)
	if err != nil {
		return // v is a struct of ours, which always has a JSON form
	}
	writeHeader(w, status)
	to := pacedWriter{w, p}
	_, err = to.Write(bytes.TrimSuffix(start, []byte(closing)))
	for _, stream := range []struct {
		name string
		head *outputHead
	}{{"stdout", out.stdout}, {"stderr", out.stderr}} {
		if err == nil {
			_, err = io.WriteString(to, `,"`+stream.name+`":"`)
		}
		if err == nil {
			err = writeEncoded(to, stream.head, out.Encoding)
		}
		if err == nil {
			_, err = io.WriteString(to, `"`)
		}
	}
	if err == nil {
		_, _ = io.WriteString(to, closing+"\n")
	}
}

// writeEncoded writes the stream as the inside of a JSON string.
func writeEncoded(w io.Writer, h *outputHead, encoding string) error {
	if encoding == "base64" {
		enc := base64.NewEncoder(base64.StdEncoding, w)
		for _, chunk := range h.chunks {
			if _, err := enc.Write(chunk); err != nil {
				return err
			}
		}
		return enc.Close()
	}
	var quoted bytes.Buffer
	enc := json.NewEncoder(&quoted)
	enc.SetEscapeHTML(false)
	_, err := h.text(func(text []byte) error {
		for len(text) > 0 {
			n := min(len(text), firstChunk)
			n -= len(partialRune(text[:n]))
			quoted.Reset()
			if err := enc.Encode(string(text[:n])); err != nil {
				return err
			}
			if _, err := w.Write(quoted.Bytes()[1 : quoted.Len()-2]); err != nil { // without quotes and newline
				return err
			}
			text = text[n:]
		}
		return nil
	})
	return err
}
