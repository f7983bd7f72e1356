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
		"stages":             strings.Repeat("FROM a\n", 80_000),
		"instructions":       "FROM a AS b\n" + strings.Repeat("USER a\n", 5000) + "FROM a\n",
		"global arguments":   "ARG" + strings.Repeat(strings.Repeat(" A", 30000)+"\\\n", 8) + "x\nFROM a\n",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Parse(text, Options{Context: "c"}); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "more than") && !strings.Contains(err.Error(), "too many") {
				t.Errorf("got %v, want the bound that was exceeded", err)
			}
		})
	}
	again, err := Parse("FROM a\nARG B=0\nENV A=1 B=2 A=3 C=4\nENV A=5 D=$A\nWORKDIR /$A$B$C$D\n", Options{})
	if err != nil || again.Stages[0].Steps[2].Workdir.Path != "/5243" {
		t.Errorf("got %+v, %v, want the last value of each name", again, err)
	}
	usual := "FROM a\nONBUILD RUN echo onbuild\n# ONBUILD\nRUN <<EOF\n" + strings.Repeat("echo ${A:-x} ${B%.*}\n", 1500) + "EOF\nARG A B=$A\nRUN echo $((1<<2)) " +
		strings.Repeat("${A:-x} ", 100) + "\n"
	if _, err := Parse(usual, Options{Context: "c"}); err != nil {
		t.Errorf("a usual text: %v", err)
	}
}
