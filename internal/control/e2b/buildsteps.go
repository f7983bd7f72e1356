package e2b

import (
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/build/plan"
)

// stepJSON is the schema TemplateStep.
type stepJSON struct {
	Type      string   `json:"type"`
	Args      []string `json:"args"`
	FilesHash string   `json:"filesHash"`
	Force     bool     `json:"force"`
}

// filesHash is the grammar of the key of an upload.
var filesHash = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)

// stepsOf returns the steps of a plan. The id of a step is its position, from "1".
func stepsOf(given []stepJSON) ([]plan.Step, error) {
	if len(given) > plan.MaxSteps {
		return nil, invalid("steps may have at most %d entries", plan.MaxSteps)
	}
	out := make([]plan.Step, len(given))
	for i, in := range given {
		id := strconv.Itoa(i + 1)
		step, problem := in.step()
		if problem == "" {
			problem = textProblem(in.Args...)
		}
		if problem != "" {
			return nil, invalid("step %s: %s", id, problem)
		}
		step.ID, step.NoCache = id, in.Force
		shown := in.Args
		if step.Run != nil {
			shown = shown[:1] // the user would look like a part of the command
		}
		step.Text = shownText(strings.TrimRight(step.Text+" "+strings.Join(shown, " "), " ")) // COPY has empty arguments
		out[i] = step
	}
	return out, nil
}

// maxShown is the largest number of bytes of a step in logs and reasons.
const maxShown = 1 << 10

// shownText shortens a step's text for logs, so that its exit status has room beside it.
func shownText(text string) string {
	if len(text) <= maxShown {
		return text
	}
	return strings.ToValidUTF8(text[:maxShown], "") + " …"
}

// textProblem returns the reason why texts cannot be parts of a plan, or "".
func textProblem(texts ...string) string {
	total := 0
	for _, text := range texts {
		if total += len(text); total > plan.MaxText {
			return "the text may have at most " + strconv.Itoa(plan.MaxText) + " bytes"
		}
		if strings.ContainsRune(text, 0) {
			return "the text holds a NUL character"
		}
	}
	return ""
}

// step returns the step, with its word as the text, or the reason why it is refused.
func (in stepJSON) step() (plan.Step, string) {
	word := strings.ToUpper(in.Type)
	out := plan.Step{Text: word}
	switch word {
	case "RUN":
		if len(in.Args) < 1 || len(in.Args) > 2 || in.Args[0] == "" {
			return out, "RUN has a command, and perhaps a user"
		}
		out.Run = &plan.Run{Argv: []string{"/bin/bash", "-l", "-c", in.Args[0]}, User: in.arg(1)}
	case "WORKDIR":
		if len(in.Args) != 1 || in.Args[0] == "" {
			return out, "WORKDIR has a path"
		}
		out.Workdir = &plan.Workdir{Path: in.Args[0]}
	case "USER":
		if len(in.Args) != 1 || in.Args[0] == "" {
			return out, "USER has a name"
		}
		out.User = &plan.User{Name: in.Args[0], Create: true}
	case "ENV":
		if len(in.Args) == 0 || len(in.Args)%2 != 0 {
			return out, "ENV has pairs of a name and a value"
		}
		return in.env(out)
	case "COPY":
		return in.copy(out)
	default:
		return out, "the type must be COPY, RUN, WORKDIR, USER or ENV"
	}
	return out, ""
}

// arg returns an argument that may be missing.
func (in stepJSON) arg(i int) string {
	if i >= len(in.Args) {
		return ""
	}
	return in.Args[i]
}

func (in stepJSON) env(out plan.Step) (plan.Step, string) {
	set := make([]plan.Variable, 0, len(in.Args)/2)
	for i := 0; i < len(in.Args); i += 2 {
		if name := in.Args[i]; name == "" || strings.ContainsAny(name, "=\n") {
			return out, "the name of a variable is not empty and has no '=' and no line end"
		}
		set = append(set, plan.Variable{Name: in.Args[i], Value: in.Args[i+1]})
	}
	out.Env = &plan.Env{Set: set, Expand: true}
	return out, ""
}

// copy reads the arguments source, destination, user and mode.
func (in stepJSON) copy(out plan.Step) (plan.Step, string) {
	switch {
	case len(in.Args) < 2 || len(in.Args) > 4 || in.Args[0] == "" || in.Args[1] == "":
		return out, "COPY has a source and a destination, and perhaps a user and a mode"
	case !filesHash.MatchString(in.FilesHash):
		return out, "COPY has a filesHash of 1 to 128 letters, digits, '_' and '-'"
	}
	owner := in.arg(2)
	out.Copy = &plan.Copy{
		Context: in.FilesHash, Sources: []string{entryOf(in.Args[0])}, Dest: in.Args[1],
		Owner: owner, CurrentUser: owner == "",
	}
	if text := in.arg(3); text != "" {
		mode, err := strconv.ParseUint(text, 8, 32)
		if err != nil || mode > 0o7777 {
			return out, "the mode of COPY must be octal, at most 7777"
		}
		bits := uint32(mode)
		out.Copy.Mode = &bits
	}
	return out, ""
}

// entryOf returns the entry of an upload that a source names. The client has packed only
// the files that a pattern matches, so that the directory before its first wildcard
// stands for it. A source that leaves the client's directory stands for everything.
func entryOf(source string) string {
	wild := strings.IndexAny(source, "*?[")
	if brace := strings.IndexByte(source, '{'); brace >= 0 && (wild < 0 || brace < wild) && strings.Contains(source[brace:], ",") {
		wild = brace
	}
	if wild >= 0 {
		source = source[:strings.LastIndexByte(source[:wild], '/')+1]
	}
	clean := path.Clean(strings.TrimLeft(source, "/"))
	if clean == ".." || strings.HasPrefix(clean, "../") {
		return "."
	}
	return clean
}
