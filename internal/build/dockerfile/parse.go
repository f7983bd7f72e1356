package dockerfile

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/wrenn-dev/wrenn/internal/build/plan"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Parse reads text. The plan holds the stages that the target needs.
func Parse(text string, o Options) (plan.Plan, error) {
	if len(text) > MaxText {
		return plan.Plan{}, fault.New(fault.Invalid, Reason, "Dockerfile:1: the text is longer than %d bytes", MaxText)
	}
	if strings.ContainsRune(text, 0) {
		return plan.Plan{}, fault.New(fault.Invalid, Reason, "Dockerfile:1: the text contains a NUL character")
	}
	if err := checkLines(text); err != nil {
		return plan.Plan{}, err
	}
	result, err := parser.Parse(strings.NewReader(text))
	if err != nil {
		return plan.Plan{}, located(err, 1)
	}
	if err := checkInstructions(result.AST); err != nil {
		return plan.Plan{}, err
	}
	stages, meta, err := instructions.Parse(result.AST, linter.New(&linter.Config{SkipAll: true}))
	if err != nil {
		return plan.Plan{}, located(err, 1)
	}
	if len(stages) == 0 {
		return plan.Plan{}, lineError(1, "there is no FROM instruction")
	}
	r := reader{options: o, escape: result.EscapeToken, stages: stages, used: map[string]bool{}, budget: newBudget()}
	if err := r.metaArgs(meta); err != nil {
		return plan.Plan{}, err
	}
	return r.plan()
}

// reader is one Parse.
type reader struct {
	options Options
	escape  rune
	stages  []instructions.Stage
	// global are the ARGs before the first FROM.
	global []plan.Variable
	// used are the build arguments that the text declares.
	used map[string]bool
	// bases are the bases of all stages, with positions in stages.
	bases []plan.Base
	// read are the stages that have been read; nil is one that was not needed yet.
	read   []*stage
	order  []int // the needed stages in the order of their dependencies
	steps  int
	notes  []string
	budget *budget
	// declared is the number of arguments that the ARGs so far name.
	declared int
}

// word expands a word of the text.
func (r *reader) word(word string, scope []plan.Variable) (string, []string, error) {
	return expandWord(r.escape, word, scope, r.budget)
}

// plan reads the needed stages.
func (r *reader) plan() (plan.Plan, error) {
	r.read = make([]*stage, len(r.stages))
	for i := range r.stages {
		b, err := r.base(i)
		if err != nil {
			return plan.Plan{}, err
		}
		r.bases = append(r.bases, b)
	}
	target, err := r.target()
	if err != nil {
		return plan.Plan{}, err
	}
	last, err := r.need(target)
	if err != nil {
		return plan.Plan{}, err
	}
	p := plan.Plan{ImageSettings: true, NoCache: r.options.NoCache, Start: r.options.Start, Ready: r.options.Ready}
	if p.Start == "" {
		p.Start, p.Arguments = last.start(), last.arguments()
	}
	if p.Ready == "" && p.Start != "" {
		p.Ready = last.ready
	}
	for _, name := range slices.Sorted(maps.Keys(r.options.Args)) {
		if !r.used[name] && !predefined[name] {
			r.note(0, "the build argument %.64s is not used", name)
		}
	}
	p.Notes = r.notes
	p.Stages = r.number()
	return p, nil
}

// number returns the needed stages, with the positions among them and the numbers of
// their steps.
func (r *reader) number() []plan.Stage {
	slices.Sort(r.order) // a stage names only earlier ones
	place := map[int]int{}
	for i, n := range r.order {
		place[n+1] = i + 1
	}
	var out []plan.Stage
	count := 0
	for _, n := range r.order {
		s := plan.Stage{Name: r.stages[n].Name, From: r.bases[n], Steps: r.read[n].steps}
		if s.From.Stage > 0 {
			s.From.Stage = place[s.From.Stage]
		}
		for i := range s.Steps {
			count++
			s.Steps[i].ID = strconv.Itoa(count)
			if c := s.Steps[i].Copy; c != nil && c.Stage > 0 {
				c.Stage = place[c.Stage]
			}
			if run := s.Steps[i].Run; run != nil {
				for j := range run.Binds {
					run.Binds[j].Stage = place[run.Binds[j].Stage] // 0 is none, and has no place
				}
			}
		}
		out = append(out, s)
	}
	return out
}

// target returns the position of the stage that becomes the template.
func (r *reader) target() (int, error) {
	t := r.options.Target
	if t == "" {
		return len(r.stages) - 1, nil
	}
	if n, ok := r.find(t, len(r.stages)); ok {
		return n, nil
	}
	return 0, lineError(1, "there is no stage %.64q", t)
}

// find returns the position of the stage before limit with a name or number.
func (r *reader) find(name string, limit int) (int, bool) {
	for i := limit - 1; i >= 0; i-- {
		if strings.EqualFold(r.stages[i].Name, name) && name != "" {
			return i, true
		}
	}
	n, err := strconv.Atoi(name)
	return n, err == nil && n >= 0 && n < limit
}

// base returns the base of the stage n. Numbers name no base.
func (r *reader) base(n int) (plan.Base, error) {
	s := r.stages[n]
	line := lineOf(s.Location)
	scope := append(slices.Clone(r.global), platformArgs()...)
	platform, _, err := r.word(s.Platform, scope)
	if err != nil {
		return plan.Base{}, lineError(line, "%s", err)
	}
	if platform != "" && platform != "linux/amd64" && platform != "linux" {
		return plan.Base{}, lineError(line, "the platform %.64q is not supported; sandboxes are linux/amd64", platform)
	}
	name, unknown, err := r.word(s.BaseName, scope)
	if err != nil {
		return plan.Base{}, lineError(line, "%s", err)
	}
	if name == "" || len(name) > 512 {
		return plan.Base{}, lineError(line, "the base %.64q is empty or too long (unknown arguments: %.64s)", s.BaseName, strings.Join(unknown, ", "))
	}
	for i := n - 1; i >= 0; i-- {
		if strings.EqualFold(r.stages[i].Name, name) {
			return plan.Base{Stage: i + 1}, nil
		}
	}
	return baseOf(name), nil
}

// need reads the stage n and those that it depends on, unless they have been read.
// The stages above n bound the recursion.
func (r *reader) need(n int) (*stage, error) {
	if r.read[n] != nil {
		return r.read[n], nil
	}
	s := newStage(r, n)
	if from := r.bases[n].Stage; from > 0 {
		parent, err := r.need(from - 1)
		if err != nil {
			return nil, err
		}
		s.inherit(parent)
	}
	r.read[n] = s
	for _, c := range r.stages[n].Commands {
		if err := s.instruction(c); err != nil {
			return nil, located(err, lineOf(c.Location()))
		}
	}
	r.order = append(r.order, n)
	return s, nil
}

// maxNotes bounds the notes of a text.
const maxNotes = 100

// note keeps a remark for the log; line 0 is none.
func (r *reader) note(line int, format string, args ...any) {
	if len(r.notes) >= maxNotes {
		return
	}
	text := fmt.Sprintf(format, args...)
	if line > 0 {
		text = fmt.Sprintf("Dockerfile:%d: %s", line, text)
	}
	r.notes = append(r.notes, text)
}

// lineOf returns the first line of a location, 1 if there is none.
func lineOf(l []parser.Range) int {
	if len(l) == 0 || l[0].Start.Line < 1 {
		return 1
	}
	return l[0].Start.Line
}

// lineError returns an error of the text.
func lineError(line int, format string, args ...any) error {
	return fault.New(fault.Invalid, Reason, "Dockerfile:%d: %s", line, clean(fmt.Sprintf(format, args...)))
}

// inText matches the line that the parser puts before some of its messages.
var inText = regexp.MustCompile(`^(dockerfile )?parse error on line (\d+): `)

// located returns err as an error of the text, at its own location or else at line.
func located(err error, line int) error {
	if fault.KindOf(err) != fault.Internal {
		return err
	}
	var at *parser.LocationError
	if errors.As(err, &at) && len(at.Locations) > 0 {
		line = lineOf(at.Locations[0])
	}
	text := err.Error()
	if m := inText.FindStringSubmatch(text); m != nil {
		if n, convErr := strconv.Atoi(m[2]); convErr == nil {
			line = n
		}
		text = text[len(m[0]):]
	}
	return lineError(line, "%s", text)
}

// maxMessage bounds the text of an error, in bytes.
const maxMessage = 400

// clean returns text on one line and bounded.
func clean(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "") + "…"
	}
	return text
}
