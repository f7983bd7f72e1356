package rest

import (
	"strconv"
	"unicode/utf16"
)

// loneSurrogate returns the first escape in JSON text that is half of a
// surrogate pair (RFC 8259, section 8.2), such as `\ud800`, or "".
// encoding/json replaces such an escape by U+FFFD, which the caller did not
// write. The result for text that is not JSON is undefined.
func loneSurrogate(text []byte) string {
	for i := 0; i+1 < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		first, ok := escaped(text[i:])
		if !ok {
			i++ // the escaped character is no beginning of an escape
			continue
		}
		if !utf16.IsSurrogate(first) {
			i += escapeLen - 1
			continue
		}
		second, ok := escaped(text[i+escapeLen:])
		if !ok || utf16.DecodeRune(first, second) == '\uFFFD' {
			return string(text[i : i+escapeLen])
		}
		i += 2*escapeLen - 1
	}
	return ""
}

// escapeLen is the length of an escape of the form \uXXXX.
const escapeLen = 6

// escaped returns the UTF-16 unit of the \uXXXX that text begins with.
func escaped(text []byte) (rune, bool) {
	if len(text) < escapeLen || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(text[2:escapeLen]), 16, 16)
	return rune(n), err == nil
}
