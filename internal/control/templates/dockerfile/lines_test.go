package dockerfile

import (
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// TestLinesAreBounded reads texts that take BuildKit's parser minutes. A text that is not
// refused ends the test's time.
func TestLinesAreBounded(t *testing.T) {
	nested := strings.Repeat("${A-", 8000)
	for name, text := range map[string]string{
		"ONBUILD":            "FROM a\n" + strings.Repeat(strings.Repeat("ONBUILD ", 8000)+"\\\n", 15) + "x\n",
		"ONBUILD with flags": "FROM a\n" + strings.Repeat("onbuild --x ", 5000) + "x\n",
		"ONBUILD in parts":   "# escape=`\nFROM a\n" + strings.Repeat("ONB`\n# x\n\n  # y\nUILD `  \r\n", 5000) + "x\n",
		"here-document":      "FROM a\nRUN <<" + nested + "\n",
		"in quotes":          "FROM a\nCOPY <<" + strings.Repeat("${A-'}'\"", 7000) + " /\n",
		"in parts":           "FROM a\nRUN <\\\n<" + strings.Repeat("$\\\n{A-", 8000) + "\n",
		"in ONBUILD":         "FROM a\nONBUILD RUN <<" + nested + "\n",
		"several":            "FROM a\n" + strings.Repeat("RUN <<"+strings.Repeat("${A-", 900)+strings.Repeat("x", 6000)+"\n", 10),
		"arguments":          "FROM a\nARG" + strings.Repeat(strings.Repeat(" A", 30000)+"\\\n", 8) + "\n",
		"global arguments":   "ARG" + strings.Repeat(strings.Repeat(" A", 30000)+"\\\n", 8) + "x\nFROM a\n",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Parse(text, Options{Context: "c"}); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "more than") && !strings.Contains(err.Error(), "too many") {
				t.Errorf("got %v, want the bound that was exceeded", err)
			}
		})
	}
	usual := "FROM a\nONBUILD RUN echo onbuild\n# ONBUILD\nRUN <<EOF\n" + strings.Repeat("echo ${A:-x} ${B%.*}\n", 1500) + "EOF\nARG A B=$A\nRUN echo $((1<<2)) " +
		strings.Repeat("${A:-x} ", 100) + "\n"
	if _, err := Parse(usual, Options{Context: "c"}); err != nil {
		t.Errorf("a usual text: %v", err)
	}
}
