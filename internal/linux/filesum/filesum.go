// Package filesum computes the checksum of a file's content.
//
// It owns nothing and keeps no cache: every call reads the whole file.
package filesum

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
)

// bufferSize is the size of one read, in bytes.
const bufferSize = 1 << 20

// SHA256 returns the SHA-256 of the file at path as 64 lower-case hexadecimal
// digits, and the number of bytes that it read. The error is that of os.Open or of
// the read. The file must not change meanwhile.
func SHA256(path string) (sum string, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close() // it was only read
	h := sha256.New()
	// The wrapper hides File.WriteTo, which would use a smaller buffer.
	size, err = io.CopyBuffer(h, struct{ io.Reader }{f}, make([]byte, bufferSize))
	if err != nil {
		return "", 0, err
	}
	return hex.EncodeToString(h.Sum(nil)), size, nil
}
