package dockerfile

import (
	"strings"
	"unicode"

	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/wrenn-dev/wrenn/internal/build/plan"
)

// Bounds of a text that BuildKit's parser needs, before it reads the text.
const (
	// maxOnbuild is the most ONBUILD of one instruction. The parser follows them into the
	// depth and copies the rest of the line each time; more than one is an error later.
	maxOnbuild = 100
	// maxLineWork bounds, for the instructions with here-documents, the sum of the bytes of an
	// instruction times its "${": the parser expands the line, and copies it once for each level.
	maxLineWork = 16 << 20
	// maxLineNesting is the most "${" of such an instruction.
	maxLineNesting = 1000
	// maxDeclared is the most arguments that the ARGs of a text name.
	maxDeclared = 5000
	// maxInstructions is the most instructions of a text, with those of stages that the target
	// does not need.
	maxInstructions = 5000
)

// checkInstructions refuses a text with too many stages or instructions, before each becomes a
// value of its own.
func checkInstructions(root *parser.Node) error {
	stages := 0
	for i, n := range root.Children {
		if strings.EqualFold(n.Value, "from") {
			stages++
		}
		switch {
		case stages > plan.MaxStages:
			return lineError(n.StartLine, "there are more than %d stages", plan.MaxStages)
		case i >= maxInstructions:
			return lineError(n.StartLine, "there are more than %d instructions", maxInstructions)
		}
	}
	return nil
}

// checkLines refuses a text that takes BuildKit's parser too long. It takes lines together that
// may be one instruction: those after an escape character of either kind, with the comments
// and empty lines between them.
func checkLines(text string) error {
	work := 0
	for number := 1; text != ""; {
		first := number
		var joined strings.Builder
		for more := true; more && text != ""; number++ {
			var line string
			line, text, _ = strings.Cut(text, "\n")
			line = strings.TrimRightFunc(line, unicode.IsSpace)
			start := strings.TrimLeftFunc(line, unicode.IsSpace)
			if more = start == "" || start[0] == '#'; more {
				continue
			}
			if n := len(line) - 1; line[n] == '\\' || line[n] == '`' {
				more, line = true, line[:n]
			}
			joined.WriteString(line)
		}
		instruction := joined.String()
		if strings.Count(strings.ToLower(instruction), "onbuild") > maxOnbuild {
			return lineError(first, "an instruction has more than %d ONBUILD", maxOnbuild)
		}
		if !strings.Contains(instruction, "<<") {
			continue
		}
		n := strings.Count(instruction, "${")
		if work += n * len(instruction); n > maxLineNesting || work > maxLineWork {
			return lineError(first, "instructions with a here-document have too many expansions of variables in their own lines")
		}
	}
	return nil
}
