// Package untrusted makes text that a guest, or anybody else, wrote fit to be
// logged and shown to people.
//
// It owns the rule for which characters may pass. Every package that shows
// such text calls it. It never judges the meaning of the text.
package untrusted

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Line returns text as one line of at most limit bytes of valid UTF-8. Control
// characters (which steer terminals), format characters (which reorder or hide
// text, such as the bidirectional controls of Unicode Standard Annex 9) and
// line separators become spaces.
func Line(text string, limit int) string {
	text = strings.Map(func(r rune) rune {
		if Steers(r) {
			return ' '
		}
		return r
	}, head(text, limit))
	// Replacing broken bytes makes text longer.
	return head(text, limit)
}

// Steers reports whether r changes how other characters are shown instead of
// being shown itself, or stands for bytes that are no character.
func Steers(r rune) bool {
	return r == utf8.RuneError || unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co, unicode.Cs)
}

// head returns the first limit bytes of text, cut between characters.
func head(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit]
}
