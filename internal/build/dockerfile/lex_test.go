package dockerfile

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"github.com/wrenn-dev/wrenn/internal/build/plan"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// lexScope is the scope of the comparisons with BuildKit.
var lexScope = variables{
	{Name: "A", Value: "a/b.c-b/x.tar.gz"}, {Name: "B", Value: ""}, {Name: "C", Value: "*.c\nb?\\"}, {Name: "DÄ", Value: "ä\xffö\n/ä$A"},
	{Name: "?", Value: "b"}, {Name: "-", Value: "x"}, {Name: "#", Value: "?b*"}, {Name: "@", Value: "1"}, {Name: "*", Value: "2"}, {Name: "$", Value: "3"},
	{Name: "!", Value: "4"}, {Name: "0", Value: "5"}, {Name: "12", Value: "6"},
}

// Keys implements shell.EnvGetter.
func (v variables) Keys() []string { return nil }

// compareLexers expands word with BuildKit's lexer too, which is the reference.
func compareLexers(t *testing.T, escape rune, text bool, word string) {
	t.Helper()
	reference := shell.NewLex(escape)
	reference.SkipProcessQuotes = text
	want, wantErr := reference.ProcessWordWithMatches(word, lexScope)
	l := lexer{escape: escape, text: text, scope: lexScope, budget: newBudget()}
	got, unknown, err := l.expand(word)
	if fault.Is(err, fault.Invalid) {
		return // a bound, which the reference lacks
	}
	// A backslash at the end of a reversed pattern escapes a character before it there.
	if (err != nil) != (wantErr != nil) {
		if wantErr == nil && strings.Contains(err.Error(), "invalid pattern") {
			return
		}
		t.Fatalf("%q (escape %c, text %t): got error %v, want %v", word, escape, text, err, wantErr)
	}
	if err != nil {
		return
	}
	var names []string
	for name := range want.Unmatched {
		names = append(names, name)
	}
	slices.Sort(names)
	if got != want.Result || !slices.Equal(unknown, names) {
		t.Fatalf("%q (escape %c, text %t): got %q %q, want %q %q", word, escape, text, got, unknown, want.Result, names)
	}
}

// TestLexerEqualsBuildKit compares random words, and those of which the rules are special.
func TestLexerEqualsBuildKit(t *testing.T) {
	parts := []string{
		"${", "${", "${A", "${A#", "${A##", "${A%", "${A%%*", "${A/", "${A//", "${C%", "${C#", "${DÄ//", "${DÄ%", "${B:-", "${X:+", "${X-", "${A?", "${X?", "${?//", "${-//", "${#//",
		"${@/", "${*%", "${$#", "${!//", "${0", "${12", "}", "}", "}", "}", "/", "/", "*", "?", "\\", "`", "'", "\"", "$", "$A", "$C", "$?", "$-", "$12x", "$DÄ", "ä", "\n",
		" ", "<<", "<", "b", ".", "x", ":", "-", "+", "$0", "\\$0", "\\$1", "\\$$", "\\/", "\\}", "\\*", "\\\\", "tar",
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 50_000 {
		var word strings.Builder
		for range 1 + random.IntN(9) {
			word.WriteString(parts[random.IntN(len(parts))])
		}
		escape := '\\'
		if random.IntN(4) == 0 {
			escape = '`'
		}
		compareLexers(t, escape, random.IntN(3) == 0, word.String())
	}
}

func FuzzLexer(f *testing.F) {
	f.Add("a${A//b*/$C}'$A'\"${X:-\\\"${A##*/}}\"", false, false)
	f.Fuzz(func(t *testing.T, word string, backtick, text bool) {
		escape := '\\'
		if backtick {
			escape = '`'
		}
		compareLexers(t, escape, text, word)
	})
}

// TestWorkIsBounded expands words of which the results are short and the work is not. It
// counts the work, so that a slow computer does not fail it.
func TestWorkIsBounded(t *testing.T) {
	long, stars := strings.Repeat("a", 20_000), strings.Repeat("?*", 20_000)
	scope := []plan.Variable{{Name: "V", Value: long}, {Name: "P", Value: stars}, {Name: "Q", Value: "*a*a*b"}}
	for _, name := range []string{"?", "-", "#", "@", "*", "$", "!", "0"} {
		scope = append(scope, plan.Variable{Name: name, Value: long})
	}
	for i := range 1000 {
		scope = append(scope, plan.Variable{Name: fmt.Sprint("N", i)})
	}
	for name, word := range map[string]string{
		"prefix":          "${V#$P}",
		"longest prefix":  "${V##$P}",
		"suffix":          "${V%$P}",
		"longest suffix":  "${V%%$P}",
		"replacement":     "${V/$P/x}",
		"all":             "${V//$P/x}",
		"nothing":         strings.Repeat("${V//$Q/x}${V##$Q}", 500),
		"large":           "${V//a/$V}",
		"match":           `${V//*/\$0\$0\$0\$0}`,
		"question mark":   "${?//a/${?}}",
		"hyphen":          "${-//a/${-}}",
		"number sign":     "${#//a/${#}}",
		"at":              "${@//a/${@}}",
		"asterisk":        "${*//a/${*}}",
		"dollar":          "${$//a/${$}}",
		"exclamation":     "${!//a/${!}}",
		"digit":           "${0//a/${0}}",
		"nested":          strings.Repeat("${A-", 1000) + strings.Repeat("}", 1000),
		"nested in quote": strings.Repeat("${A-'}'\"}", 1000),
		"values":          strings.Repeat("${V:+}", 1000),
		"names":           strings.Repeat("$A", 400_000),
	} {
		t.Run(name, func(t *testing.T) {
			b := newBudget()
			if out, _, err := expandWord('\\', word, scope, b); fault.ReasonOf(err) != Reason || !fault.Is(err, fault.Invalid) {
				t.Errorf("got %d bytes, %v, want %s", len(out), err, Reason)
			}
		})
	}
	// All words of a text share one budget.
	b := newBudget()
	var err error
	for i := 0; err == nil; i++ {
		if i == maxWork {
			t.Fatal("the words of a text have no bound together")
		}
		_, _, err = expandWord('\\', "${V##$Q}", scope, b)
	}
	if fault.ReasonOf(err) != Reason {
		t.Errorf("many words: %v, want %s", err, Reason)
	}
	// Exactly the bound.
	if _, _, err := expandWord('\\', strings.Repeat("${A-", maxNesting)+strings.Repeat("}", maxNesting), nil, newBudget()); err != nil {
		t.Errorf("%d levels: %v, want no error", maxNesting, err)
	}
}
